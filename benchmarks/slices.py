"""What the published variants need on slices of TPUs, by the estimates of XLA's compiler.

    python -m benchmarks.slices [--variants=a,b] [--topologies=v5e:4x4,v4:2x2x4] [--largest_batch]
        [--remat] [--again] [--only_write]

Compiles the training step of each variant's recipe (its published batch over the whole slice,
bfloat16), adds a row to docs/slices.json, and writes two tables between the marks of docs/tpu.md.
Nothing is run; libtpu is needed, and one to ten minutes for each compilation. What is there is not
compiled again, except with `--again`; `--largest_batch` also looks for the largest batch, some
three compilations more, and `--remat` compiles the other settings of `model.remat`, two more.
`--only_write` compiles nothing.
"""

import argparse
import importlib
import json
import re
import subprocess
import sys
from importlib import metadata
from typing import Any

import jax
import ml_collections

from benchmarks.table import ROOT, with_table
from cluenet_jax.cli.main import run
from cluenet_jax.compile.costs import ACTIVATIONS, estimate_cycles, scope_names
from cluenet_jax.compile.hlo import parse_hlo
from cluenet_jax.compile.largest_batch import fixed_memory, search, with_batch_size
from cluenet_jax.compile.programs import CompiledProgram, compile_train_step, programs_for
from cluenet_jax.compile.topologies import Topology, find_topology
from cluenet_jax.models.layers import REMAT

PAGE, SLICES = ROOT / "docs" / "tpu.md", ROOT / "docs" / "slices.json"
TOPOLOGIES = ("v5e:4x4", "v4:2x2x4")
# The published recipe of each variant, a module of configs/ and its argument.
RECIPES = {
    "cluenet_mini_cifar": ("cifar100", None),
    "cluenet_micro": ("mini_imagenet", None),
    "cluenet_tiny": ("mini_imagenet", None),
    "cluenet_small": ("mini_imagenet", None),
    "cluenet_base": ("mini_imagenet", None),
    "clustr_b1": ("imagenet_clustr", "b1"),
    "clustr_b2": ("imagenet_clustr", "b2"),
    "clustr_b3": ("imagenet_clustr", "b3"),
}
# Layers of CLUENet's attention and cluster pooling: no clustering by themselves.
_LAYERS = {"key", "value", "query", "out", "gate", "guide", "norm", "norm_after", "expand"}
_LAYERS |= {"project", "skip"}


def main(argv: list[str]) -> None:
    """Compiles what is missing, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--variants", type=_names, default=[*RECIPES], help="such as a,b; or all")
    parser.add_argument("--topologies", type=_names, default=TOPOLOGIES)
    parser.add_argument("--largest_batch", action="store_true", help="look for what fits")
    parser.add_argument("--remat", action="store_true", help="compile other settings of it too")
    parser.add_argument("--again", action="store_true", help="compile what is there too")
    parser.add_argument("--only_write", action="store_true", help="compile nothing")
    args = parser.parse_args(argv)
    for name in set(args.variants) - RECIPES.keys():
        parser.error(f"--variants: there is no {name!r}. Variants: {', '.join(RECIPES)}.")
    # What was compiled before would seem to take no time.
    jax.config.update("jax_enable_compilation_cache", False)
    topologies = [find_topology(name) for name in args.topologies]
    for variant in [] if args.only_write else args.variants:
        for topology in topologies:
            row = None if args.again else find_row(read_rows(), variant, topology.name)
            if row is None:
                row = keep(compile_row(variant, topology))
            if args.largest_batch and "largest_batch_per_device" not in row:
                keep(row | {"largest_batch_per_device": find_largest_batch(row, topology)})
            if args.remat and "remat" not in row:
                keep(row | {"remat": compile_remat(row, topology)})
    write_tables()


def _names(text: str) -> list[str]:
    return text.split(",")


def read_rows() -> list[dict[str, Any]]:
    """The rows that were compiled so far."""
    return json.loads(SLICES.read_text())


def keep(row: dict[str, Any]) -> dict[str, Any]:
    """Writes a row into docs/slices.json in place of its former, then both tables."""
    SLICES.write_text(json.dumps(with_row(read_rows(), row), indent=1) + "\n")
    write_tables()
    print(f"{row['variant']} {row['topology']}: {', '.join(row)}", flush=True)
    return row


def write_tables() -> None:
    """The tables of all rows, into docs/tpu.md."""
    rows = read_rows()
    text = with_table(PAGE.read_text(), "slices", slices_table(rows))
    PAGE.write_text(with_table(text, "remat", remat_table(rows)))


def find_row(rows: list[dict[str, Any]], variant: str, topology: str) -> dict[str, Any] | None:
    """The row of a variant and a slice."""
    return next((r for r in rows if (r["variant"], r["topology"]) == (variant, topology)), None)


def with_row(rows: list[dict[str, Any]], row: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows with another one, in place of that of the same variant and slice."""
    former = find_row(rows, row["variant"], row["topology"])
    return [r for r in rows if r is not former] + [row]


def recipe(variant: str) -> ml_collections.ConfigDict:
    """The published recipe of a variant, in bfloat16."""
    module, argument = RECIPES[variant]
    get_config = importlib.import_module(f"configs.{module}").get_config
    config = get_config(argument) if argument else get_config()
    config.model.backbone = variant
    config.model.dtype = "bfloat16"
    return config


def compile_training(config: ml_collections.ConfigDict, topology: Topology) -> CompiledProgram:
    """The training step of a configuration on a slice."""
    return compile_train_step(programs_for(config, topology, topology.devices()))


def compile_row(variant: str, topology: Topology) -> dict[str, Any]:
    """The figures of a variant on a slice."""
    program = compile_training(recipe(variant), topology)
    return {
        "variant": variant,
        "topology": topology.name,
        "commit": clean_commit(),
        "versions": {name: metadata.version(name) for name in ("jax", "libtpu")},
        **figures(program, topology, variant),
    }


def find_largest_batch(row: dict[str, Any], topology: Topology) -> int:
    """The largest batch per device that fits, to an eighth of it."""

    def memory_of(batch_per_device: int) -> int | None:
        batch_size = batch_per_device * topology.num_devices
        program = compile_training(with_batch_size(recipe(row["variant"]), batch_size), topology)
        needed = program.memory.total if program.memory else None
        print(f"{batch_per_device} a device: {needed} bytes, {program.seconds:.0f} s", flush=True)
        return needed

    own = {row["batch_per_device"]: row.get("memory_bytes")}
    return search(memory_of, topology.memory_bytes, {0: row.get("memory_bytes_fixed", 0)} | own)


def compile_remat(row: dict[str, Any], topology: Topology) -> dict[str, dict[str, Any]]:
    """Memory and cycles of the recipe's batch with the other settings of `model.remat`."""
    remat = {}
    for setting in [setting for setting in REMAT if setting != "none"]:
        config = recipe(row["variant"])
        config.model.remat = setting
        known = figures(compile_training(config, topology), topology, row["variant"])
        kept = ("memory_bytes", "cycles", "refusal")
        remat[setting] = {name: known[name] for name in kept if name in known}
    return remat


def figures(program: CompiledProgram, topology: Topology, variant: str) -> dict[str, Any]:
    """The figures of a training step; those of one device where nothing else is said."""
    batch_per_device = program.batch_size // topology.num_devices
    known = {
        "batch_size": program.batch_size,
        "batch_per_device": batch_per_device,
        "fits": program.fits(topology.memory_bytes),
        "compile_seconds": round(program.seconds),
    }
    if program.memory is None or program.cycles is None:
        return {**known, "refusal": program.refusal}
    activations = [c.bytes for c in program.collectives if c.over == ACTIVATIONS]
    return {
        **known,
        "memory_bytes": program.memory.total,
        "memory_bytes_fixed": fixed_memory(program),
        "memory_bytes_available": topology.memory_bytes,
        "cycles": program.cycles.total,
        "cycles_per_image": round(program.cycles.total / batch_per_device),
        "clustering_share": clustering_share(program.hlo, variant),
        "without_estimate": sum(program.cycles.unknown.values()),
        "loops_of_unknown_length": len(program.cycles.endless),
        "collectives_over_activations": len(activations),
        "bytes_over_activations": sum(activations),
    }


def clustering_share(hlo: str, variant: str) -> float:
    """The fraction of a program's estimated cycles that clustering takes."""
    clusters = clusters_in_clustr if variant.startswith("clustr") else clusters_in_cluenet

    def find_scope(op_name: str) -> tuple[str, str, str]:
        part = "clustering" if clusters([*scope_names(op_name)]) else "other"
        return (part, part, part)

    cycles = estimate_cycles(parse_hlo(hlo), find_scope)
    return round(cycles.grouped(0).get("clustering", 0) / max(1, cycles.total), 4)


def clusters_in_clustr(names: list[str]) -> bool:
    """Whether an operation in these scopes is of the search for density peaks."""
    return "clustering" in names


def clusters_in_cluenet(names: list[str]) -> bool:
    """Whether an operation in these scopes is of attention or cluster pooling, but of no layer.

    What is left is pooling of centers, similarities, aggregation, assignment, dispatch, means.
    """
    for name, following in zip(names, [*names[1:], ""]):
        if name == "attention" or re.fullmatch(r"pool\d", name):
            return following not in _LAYERS
    return False


def clean_commit() -> str | None:
    """The commit of the code that is compiled; None if it was changed since."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else "unknown"

    changed = git("status", "--porcelain", "--", "cluenet_jax", "configs", "benchmarks")
    return None if changed else git("rev-parse", "--short=10", "HEAD")


def slices_table(rows: list[dict[str, Any]]) -> str:
    """A line for each row, and which variants and slices have none yet."""
    lines = [
        "| variant | slice | images a device | memory | largest batch a device | cycles an image "
        "| clustering | without an estimate | collectives over activations |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    missing = []
    for variant in RECIPES:
        for topology in TOPOLOGIES:
            row = find_row(rows, variant, topology)
            if row is None:
                missing.append(f"`{variant}` for `{topology}`")
            else:
                lines.append(f"| `{variant}` | `{topology}` | {' | '.join(_cells(row))} |")
    if not rows:
        return "No variant is compiled yet.\n"
    if missing:
        lines += ["", f"Not compiled yet: {', '.join(missing)}."]
    compiled = sorted({_origin(row) for row in rows})
    lines += ["", f"Compiled from {'; '.join(compiled)}."]
    return "\n".join(lines) + "\n"


def _cells(row: dict[str, Any]) -> list[str]:
    batch, largest = str(row["batch_per_device"]), _largest_cell(row)
    if "refusal" in row:
        return [batch, f"does not fit: {row['refusal']}", largest, *[""] * 4]
    used, available = (row[name] / 2**30 for name in ("memory_bytes", "memory_bytes_available"))
    collectives = str(row["collectives_over_activations"])
    if row["collectives_over_activations"]:
        collectives = f"**{collectives}**, {row['bytes_over_activations'] / 2**20:.2f} MiB"
    endless = row["loops_of_unknown_length"]
    return [
        batch,
        f"{'' if row['fits'] else 'does not fit: '}{used:.2f} of {available:.2f} GiB",
        largest,
        f"{row['cycles_per_image'] / 1e6:.3f} M",
        f"{row['clustering_share']:.0%}",
        str(row["without_estimate"]) + (f", {endless} loops counted once" if endless else ""),
        collectives,
    ]


def _largest_cell(row: dict[str, Any]) -> str:
    """The largest batch that was found; else about what there is room for, by proportion."""
    if "largest_batch_per_device" in row:
        return str(row["largest_batch_per_device"])
    if "memory_bytes_fixed" not in row:
        return ""
    fixed, available = row["memory_bytes_fixed"], row["memory_bytes_available"]
    growing = (row["memory_bytes"] - fixed) / row["batch_per_device"]
    room = int((available - fixed) / growing)
    # Two digits say as much as the proportion does.
    return f"≈ {round(room, 2 - len(str(room)))}"


def remat_table(rows: list[dict[str, Any]]) -> str:
    """Memory with each setting of `model.remat`, and cycles against those of "none"."""
    lines = [f"| variant | slice | images a device | {' | '.join(REMAT)} |"]
    lines.append("|---|---|---|" + "---|" * len(REMAT))
    for variant in RECIPES:
        for row in (row for row in rows if row["variant"] == variant and "remat" in row):
            cells = [_remat_cell(known, row) for known in (row, *row["remat"].values())]
            start = f"| `{variant}` | `{row['topology']}` | {row['batch_per_device']} | "
            lines.append(f"{start}{' | '.join(cells)} |")
    return "\n".join(lines) + "\n" if len(lines) > 2 else "No setting is compiled yet.\n"


def _remat_cell(known: dict[str, Any], row: dict[str, Any]) -> str:
    if "refusal" in known:
        return "does not fit"
    memory = f"{known['memory_bytes'] / 2**30:.2f} GiB"
    if known is row or "cycles" not in row:
        return memory
    return f"{memory}, cycles × {known['cycles'] / row['cycles']:.2f}"


def _origin(row: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
    return f"{row['commit'] or 'changed files'} with {versions}"


if __name__ == "__main__":
    run(main, sys.argv[1:])
