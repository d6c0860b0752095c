"""What a recipe needs on TPUs or GPUs that are not there, by the compiler's own estimates.

python -m cluenet_jax compile --config=configs/cifar100.py --topology=v5e:4x4
    [--config.optim.batch_size=64 ...]

Compiles the training and the evaluation step; nothing is run, no data is read. It takes minutes.
Exit code 1 if a step does not fit the devices' memory.
"""

import argparse
import json
import pathlib

import jax

from cluenet_jax.cli.recipes import load_recipe
from cluenet_jax.compile import report
from cluenet_jax.compile.largest_batch import largest_batch, with_batch_size
from cluenet_jax.compile.programs import (
    CompiledProgram,
    compile_eval_step,
    compile_train_step,
    programs_for,
)
from cluenet_jax.compile.topologies import find_topology
from cluenet_jax.errors import UserError


def main(argv: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m cluenet_jax compile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="--config=FILE, and --config.SECTION.KEY=VALUE for each setting that differs: as "
        "for main.py.",
        allow_abbrev=False,
    )
    parser.add_argument("--topology", required=True, help="such as v5e:4x4, v5e-16, v4-32, h100:8")
    parser.add_argument("--num_targets", type=_positive, help="where the dataset's name says none")
    parser.add_argument("--largest_batch", action="store_true", help="look for what fits")
    parser.add_argument("--json", help="a file for all figures")
    parser.add_argument("--hlo", help="a folder for the optimized programs")
    args, for_recipe = parser.parse_known_args(argv)
    topology = find_topology(args.topology)
    config = load_recipe(for_recipe)
    devices = topology.devices()
    # What was compiled before would seem to take no time.
    jax.config.update("jax_enable_compilation_cache", False)

    programs = programs_for(config, topology, devices, args.num_targets)
    compiled = [compile_train_step(programs), compile_eval_step(programs)]
    largest = None
    if args.largest_batch:

        def compile_with(batch_size: int) -> CompiledProgram:
            other = with_batch_size(config, batch_size)
            return compile_train_step(programs_for(other, topology, devices, args.num_targets))

        unit = config.optim.grad_accum_steps
        largest = largest_batch(
            compile_with, topology.memory_bytes, compiled[0], unit, topology.num_devices
        )
    print(report.to_text(topology, compiled, largest))
    if args.json:
        figures = report.to_json(topology, compiled, largest)
        _write(pathlib.Path(args.json), json.dumps(figures, indent=1) + "\n")
    if args.hlo:
        for program in compiled:
            _write(pathlib.Path(args.hlo) / f"{program.name}.hlo.txt", program.hlo)
    return 0 if report.fits(topology, compiled) else 1


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a whole number of at least 1")
    return number


def _write(path: pathlib.Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}") from error
