"""The clustering families and two plain models side by side: one command, which resumes.

    python -m benchmarks.comparison --data=CIFAR100 [--workdir=runs/comparison] [--epochs=6]
        [--rate_epochs=2] [--rates=1e-3,3e-3,1e-2] [--seeds=2] [--models=a,b] [--cycles]
        [--out=docs/comparison.json]
    python -m benchmarks.comparison --quick

CIFAR100 is an image folder, train/CLASS/*.webp and test/CLASS/*.webp. All models of `MODELS` have
as many parameters within 10 %, the recipe configs/image_folder.py (up to 64 pixels its augmentation
is that of CIFAR-100) and as many epochs. A model trains for `--rate_epochs` at each of the rates on
9 of 10 training images and is scored on the tenth; at its best rate it then trains for `--epochs`
on all of them, once for each seed. Only then are test images read, and no checkpoint is chosen by
them: the last one counts. A single rate is not scored.

Columns: parameters that train; MACs of all products of an image; images/s in training and in
inference, of short runs one after another before all others; top-1 on the test images, their mean
and that of each seed; areas under the deletion and insertion curves of the decision map of
`--explained` test images (mean color; blur and the rivals are in the JSON), of the first seed.
`--cycles` adds the cycles an image of the training step, compiled in bfloat16 for a slice of TPUs
(needs libtpu, minutes of CPU for each model). Speeds are of this machine, as busy as it was. How
clusters agree with masks is not compared: that needs models trained for segmentation
(`python -m benchmarks.segmentation_runs --clusters=N`).

Each run is a process of main.py (or benchmarks.convolutional) with its own folder in the workdir,
where it resumes when it was stopped. What has ended is in the JSON, with which another machine
continues: nothing that it holds is trained or measured again. The table is printed.
"""

import argparse
import dataclasses
import functools
import json
import math
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

import jax
import ml_collections
import numpy as np
from PIL import Image

from benchmarks import plain
from benchmarks.table import ROOT
from cluenet_jax import explain
from cluenet_jax.checkpoints.load import load
from cluenet_jax.cli.explanations import normalized_batches
from cluenet_jax.cli.images import eval_records
from cluenet_jax.cli.main import run
from cluenet_jax.cli.recipes import load_recipe
from cluenet_jax.compile.programs import compile_train_step, programs_for
from cluenet_jax.compile.topologies import find_topology
from cluenet_jax.data import list_images
from cluenet_jax.errors import UserError
from cluenet_jax.evaluation import evaluate_checkpoint
from cluenet_jax.macs import count_macs
from cluenet_jax.train.metric_writer import METRICS, read_metrics

_PEER = {"dims": (32, 48, 64, 104), "mlp_ratios": (8, 8, 4, 4)}
# The variants and the options that bring them to the size of `cluenet_nano`.
MODELS = {
    "cluenet_nano": {},
    "clustr_nano": {},
    "coc_nano": _PEER,
    "fec_nano": _PEER,
    "clusterformer_nano": _PEER,
    "convolutional_nano": {},
    "vit_nano": {},
}
# A training image of so many is held out to choose the rate.
_HELD_OUT = 10
_NICE = 10
# What main.py says when a rate is too high to train with.
_DIVERGED = "train.max_consecutive_skips"
_SMALL = dict(dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), head_dim=8)
# One of ours and a plain one, made small: two processes for each.
_QUICK = dict(
    models={"coc_nano": _SMALL, "vit_nano": {"dim": 12, "depth": 1}},
    rates=(1e-3,),
    seeds=1,
    epochs=2.0,
    rate_epochs=1.0,
    speed_epochs=1.0,
    batch=8,
    explained=4,
    log_every=1,
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all models have in common.

    Attributes:
      data: The image folder.
      workdir: For runs and measurements.
      models: Variants, with the options that differ.
      image_size: Side that models see, pixels.
      epochs: Of the runs on all training images.
      rate_epochs: Of the runs that choose the rate.
      speed_epochs: Of the runs that tell the speed.
      batch: Images a step.
      rates: Peak learning rates to choose from.
      seeds: Runs on all training images.
      explained: Test images that are explained.
      log_every: Steps between records of the speed.
      topology: A slice of TPUs to count cycles for; None for no cycles.
      out: The JSON of all results.
    """

    data: pathlib.Path
    workdir: pathlib.Path
    models: dict[str, dict[str, Any]]
    image_size: int
    epochs: float
    rate_epochs: float
    speed_epochs: float
    batch: int
    rates: tuple[float, ...]
    seeds: int
    explained: int
    log_every: int
    topology: str | None
    out: pathlib.Path


def main(argv: list[str]) -> None:
    """The command line."""
    args = parse(argv)
    os.nice(_NICE)
    plain.register()
    if args.topology:
        # As in benchmarks.slices: programs for TPUs are compiled, not read.
        jax.config.update("jax_enable_compilation_cache", False)
    with tempfile.TemporaryDirectory() as temporary:
        workdir = args.workdir or (temporary if args.quick else "runs/comparison")
        args.workdir = pathlib.Path(workdir).resolve()
        args.data = make_images(args.workdir / "images") if args.quick else args.data.resolve()
        args.out = args.out or args.workdir / "comparison.json"
        settings = settings_of(args)
        check_store(settings)
        for name in args.models:
            measure_speed(name, settings)
        for name in args.models:
            keep_row(compare(name, settings), settings)
        print(to_text(read_store(args.out)["rows"]))
        print(f"Written: {args.out}")


def parse(argv: list[str]) -> argparse.Namespace:
    """The arguments; those of `--quick` instead of what they name."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=pathlib.Path, help="an image folder")
    parser.add_argument("--workdir", type=pathlib.Path, help="by default runs/comparison")
    parser.add_argument("--models", type=lambda text: text.split(","), default=[*MODELS])
    parser.add_argument("--image_size", type=int, default=32, help="side in pixels")
    parser.add_argument("--epochs", type=float, default=6.0)
    parser.add_argument("--rate_epochs", type=float, default=2.0, help="to choose the rate")
    parser.add_argument("--batch", type=int, default=128, help="images a step")
    parser.add_argument("--rates", type=_numbers, default=(1e-3, 3e-3, 1e-2))
    parser.add_argument("--seeds", type=int, default=2, help="runs at the best rate")
    parser.add_argument("--explained", type=int, default=300, help="test images to explain")
    parser.add_argument(
        "--cycles", dest="topology", nargs="?", const="v5e:2x2", help="of a slice, v5e:2x2"
    )
    parser.add_argument("--out", type=pathlib.Path, help="FILE.json with all results")
    parser.add_argument("--quick", action="store_true", help="a tiny budget on made images")
    parser.set_defaults(log_every=10, speed_epochs=0.15)
    args = parser.parse_args(argv)
    if args.data is None and not args.quick:
        parser.error("--data=ROOT is missing: an image folder.")
    for name in set(args.models) - MODELS.keys():
        parser.error(f"--models: there is no {name!r}. Models: {', '.join(MODELS)}.")
    args.models = {name: MODELS[name] for name in args.models}
    if args.quick:
        vars(args).update({**_QUICK, "topology": None})
    numbers = ("image_size", "epochs", "rate_epochs", "batch", "seeds", "explained")
    for name in numbers:
        if getattr(args, name) <= 0:
            parser.error(f"--{name} must be above 0.")
    return args


def settings_of(args: argparse.Namespace) -> Settings:
    """The part of the arguments that all models have in common."""
    return Settings(*(getattr(args, field.name) for field in dataclasses.fields(Settings)))


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


def compare(name: str, settings: Settings) -> dict[str, Any]:
    """The row of a model: trains and measures what is not there yet."""
    scores = choose_rate(name, settings)
    rate = best_rate(name, scores) if scores else f"{settings.rates[0]:g}"
    runs = [train_on_all(name, rate, seed, settings) for seed in range(settings.seeds)]
    cycles = {}
    if settings.topology:
        key = f"{name}/cycles_{settings.topology}"
        cycles = once(settings.out, key, lambda: count_cycles(name, settings))
    row = {
        "model": name,
        "options": settings.models[name],
        "held_out_top1": scores,
        "rate": float(rate),
        **runs[0],
        **cycles,
        # Last, as `versions` and `machine` of a row are those of its speeds.
        **measure_speed(name, settings),
        "top1": [trained["top1"] for trained in runs],
    }
    row["top1_mean"] = statistics.mean(row["top1"])
    return row


def choose_rate(name: str, settings: Settings) -> dict[str, float | None]:
    """Top-1 of held-out training images for each rate, as in `best_rate`; none of a single rate."""
    if len(settings.rates) == 1:
        return {}

    def score(rate: str) -> dict[str, float | None]:
        data = hold_out(settings.data, settings.workdir)
        run = flags(name, data, float(rate), 0, settings.rate_epochs, settings)
        return {"top1": train(name, f"rate_{rate}", run, settings)}

    names = [f"{rate:g}" for rate in settings.rates]
    return {
        rate: once(settings.out, f"{name}/rate_{rate}", functools.partial(score, rate))["top1"]
        for rate in names
    }


def best_rate(name: str, scores: dict[str, float | None]) -> str:
    """The rate of the best score; of equal ones the first.

    Raises:
      UserError: All have diverged, which None says.
    """
    known = {rate: score for rate, score in scores.items() if score is not None}
    if not known:
        raise UserError(f"{name} diverged at all rates ({', '.join(scores)}): try lower --rates.")
    return max(known, key=known.__getitem__)


def train_on_all(name: str, rate: str, seed: int, settings: Settings) -> dict[str, Any]:
    """Top-1 after training on all images; of the first seed also what `measure` tells.

    Raises:
      UserError: The run diverged.
    """
    folder = f"rate_{rate}_seed_{seed}"

    def work() -> dict[str, Any]:
        run = flags(name, settings.data, float(rate), seed, settings.epochs, settings)
        top1 = train(name, folder, run, settings)
        if top1 is None:
            raise UserError(f"{name} diverged on all images at {rate}: try other --rates.")
        # Together, as the weights are only on this machine.
        measured = measure(settings.workdir / name / folder, settings) if seed == 0 else {}
        return {"top1": top1, **measured}

    return once(settings.out, f"{name}/{folder}", work)


def measure_speed(name: str, settings: Settings) -> dict[str, float | None]:
    """Images/s in training, None where the run is too short to tell, and in inference."""

    def work() -> dict[str, float | None]:
        run = flags(name, settings.data, settings.rates[0], 0, settings.speed_epochs, settings)
        train(name, "speed", run, settings)
        workdir = settings.workdir / name / "speed"
        records = read_metrics(workdir / METRICS)
        speeds = [r["step/images_per_s"] for r in records if "step/images_per_s" in r]
        evaluated = evaluate_checkpoint(str(last_checkpoint(workdir)))
        return {
            "train_images_per_s": statistics.median(speeds) if speeds else None,
            "infer_images_per_s": evaluated.images_per_s_device,
        }

    return once(settings.out, f"{name}/speed", work)


def read_store(path: pathlib.Path) -> dict[str, Any]:
    """What is known: `settings` of all results, `results` by name, `rows` of models."""
    return json.loads(path.read_text())


def check_store(settings: Settings) -> None:
    """Makes the JSON of all results where there is none, and adds the options of new models.

    Raises:
      UserError: It is of other settings, or of a model with other options.
    """
    # What is not here is in the names of the results, or changes none.
    names = ("image_size", "epochs", "rate_epochs", "speed_epochs", "batch", "explained")
    own = {"data": settings.data.name, **{name: getattr(settings, name) for name in names}}
    # As JSON has them, lists for tuples.
    models = json.loads(json.dumps(settings.models))
    if settings.out.exists():
        known = read_store(settings.out)
    else:
        known = {"settings": {**own, "models": {}}, "results": {}, "rows": []}
    expected = {**own, "models": known["settings"]["models"] | models}
    stored = {**known["settings"], "models": models | known["settings"]["models"]}
    if stored != expected:
        raise UserError(
            f"{settings.out} is of other settings, {stored}, than {expected}: delete it or give "
            "another --out and --workdir."
        )
    write_store(settings.out, {**known, "settings": expected})


def write_store(path: pathlib.Path, known: dict[str, Any]) -> None:
    """Writes the JSON of all results, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(known, indent=1) + "\n")
    part.replace(path)


def once(store: pathlib.Path, key: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of `work` and where it was made, kept in the JSON; or what that has already."""
    known = read_store(store)["results"]
    if key in known:
        return known[key]
    versions = {name: metadata.version(name) for name in ("jax", "flax")}
    machine = {"device": jax.devices()[0].device_kind, "cores": os.cpu_count()}
    result = {**work(), "versions": versions, "machine": machine}
    # Read again: another process may have added to it.
    known = read_store(store)
    known["results"][key] = result
    write_store(store, known)
    return result


def keep_row(row: dict[str, Any], settings: Settings) -> None:
    """Puts the row of a model in place of its former, in the order of `MODELS`."""
    known = read_store(settings.out)
    rows = {kept["model"]: kept for kept in known["rows"]} | {row["model"]: row}
    known["rows"] = [rows[name] for name in MODELS if name in rows]
    write_store(settings.out, known)


def hold_out(data: pathlib.Path, workdir: pathlib.Path) -> pathlib.Path:
    """An image folder in `workdir` of the training images alone, some of each class in `val`.

    Hard links where the file system has them, else copies; what is there is not made again.

    Args:
      data: An image folder with `train`.
      workdir: Where the new one is made.
    """
    if not (data / "train").is_dir():
        raise UserError(f"{data} has no folder `train`.")
    folder, part = workdir / f"held_out_{data.name}", workdir / "held_out.part"
    if folder.exists():
        return folder
    shutil.rmtree(part, ignore_errors=True)
    for label in sorted(path for path in (data / "train").iterdir() if path.is_dir()):
        for number, path in enumerate(list_images(label)):
            split = "val" if number % _HELD_OUT == 0 else "train"
            target = part / split / label.name / os.path.relpath(path, label)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(os.path.realpath(path), target)
            except OSError:
                shutil.copyfile(path, target)
    part.rename(folder)
    return folder


def flags(
    name: str, data: pathlib.Path, rate: float, seed: int, epochs: float, settings: Settings
) -> list[str]:
    """The recipe of a run and the settings that differ, as `load_recipe` and main.py take them."""
    family = name.split("_")[0]
    changed = {f"model.{family}.{option}": value for option, value in settings.models[name].items()}
    changed |= {
        "model.backbone": name,
        "seed": seed,
        "data.dir": data,
        "data.cache": True,
        "optim.batch_size": settings.batch,
        "optim.peak_lr": rate,
        "optim.epochs": epochs,
        "optim.warmup_epochs": epochs / 20,
        "optim.lr_update": "step",
        "eval.batch_size": settings.batch,
        # At the end only: no checkpoint is chosen by what it is evaluated on.
        "eval.every": epochs,
        "train.log_every": settings.log_every,
        "checkpoint.keep_latest": 1,
    }
    recipe = f"--config={ROOT / 'configs' / 'image_folder.py'}:{settings.image_size}"
    return [recipe, *(f"--config.{key}={value}" for key, value in changed.items())]


def train(name: str, folder: str, arguments: list[str], settings: Settings) -> float | None:
    """Trains in a process of its own, in a folder of the workdir.

    Returns:
      Top-1 of the evaluation images at the end, None if the run diverged.

    Raises:
      UserError: The run failed or was stopped; with the end of its output.
    """
    workdir = settings.workdir / name / folder
    is_plain = name.split("_")[0] in plain.PLAIN
    program = ["-m", "benchmarks.convolutional"] if is_plain else ["main.py"]
    workdir.mkdir(parents=True, exist_ok=True)
    log, start = workdir / "log.txt", time.perf_counter()
    with log.open("w") as file:
        command = [sys.executable, *program, *arguments, f"--workdir={workdir}"]
        code = subprocess.run(command, cwd=ROOT, stdout=file, stderr=file).returncode
    text = log.read_text()
    if code == 2 and _DIVERGED in text:
        print(f"{name}/{folder}: diverged", flush=True)
        return None
    if code:
        raise UserError(f"{name}/{folder} ended with code {code}, see {log}:\n{text[-1500:]}")
    records = read_metrics(workdir / METRICS)
    (*_, top1) = (record["eval/top1"] for record in records if "eval/top1" in record)
    print(f"{name}/{folder}: {top1:.2%}, {time.perf_counter() - start:.0f} s", flush=True)
    return top1


def last_checkpoint(workdir: pathlib.Path) -> pathlib.Path:
    """The latest step of a run."""
    return max((workdir / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))


def measure(workdir: pathlib.Path, settings: Settings) -> dict[str, Any]:
    """Size and faithfulness of the explanations, of a run's last checkpoint."""
    trained = load(str(last_checkpoint(workdir)))
    macs = count_macs(trained.model, settings.image_size)
    images = (trained.task.see_record(r) for *_, r in eval_records(trained, settings.explained))
    faithfulness = explain.evaluate_explanations(
        trained.model,
        trained.score,
        trained.best_targets,
        trained.variables,
        normalized_batches(trained, images, batch_size=50),
    )
    return {
        "parameters": count_parameters(trained.variables),
        "macs": macs["published"] + macs["unpublished"],
        "explanations": faithfulness.to_json(),
    }


def count_parameters(variables: dict[str, Any]) -> int:
    """Numbers that train; shapes are enough."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


def recipe_of(name: str, settings: Settings) -> ml_collections.ConfigDict:
    """The configuration of a model's runs on all training images, at the first rate."""
    rate, epochs = settings.rates[0], settings.epochs
    return load_recipe(flags(name, settings.data, rate, 0, epochs, settings))


def count_cycles(name: str, settings: Settings) -> dict[str, Any]:
    """The compiler's estimate of the training step in bfloat16, one device's share of the batch."""
    topology = find_topology(settings.topology)
    config = recipe_of(name, settings)
    config.model.dtype = "bfloat16"
    classes = sum(path.is_dir() for path in (settings.data / "train").iterdir())
    programs = programs_for(config, topology, topology.devices(), classes)
    program = compile_train_step(programs)
    if program.cycles is None:
        raise UserError(f"{name} has no estimate for {topology.name}: {program.refusal}")
    return {
        "cycles_per_image": program.cycles.total * topology.num_devices / settings.batch,
        "cycles_without_estimate": sum(program.cycles.unknown.values()),
    }


def to_text(rows: list[dict[str, Any]]) -> str:
    """The table; a line for each model."""
    cycles = any("cycles_per_image" in row for row in rows)
    lines = [
        "| model | parameters | MACs | training, images/s | inference, images/s "
        + ("| TPU cycles an image " if cycles else "")
        + "| rate | top-1 | of each seed | deletion ↓ | insertion ↑ |"
    ]
    lines.append("|---" * (lines[0].count("|") - 1) + "|")
    for row in rows:
        speed = row["train_images_per_s"]
        cells = [
            f"`{row['model']}`",
            f"{row['parameters']:,}",
            f"{row['macs'] / 1e6:.1f} M",
            "" if speed is None else f"{speed:.0f}",
            f"{row['infer_images_per_s']:.0f}",
        ]
        if cycles:
            count = row.get("cycles_per_image")
            cells.append("" if count is None else f"{count / 1e3:.0f} k")
        cells += [f"{row['rate']:g}", f"{100 * row['top1_mean']:.2f}"]
        cells.append(", ".join(f"{100 * top1:.2f}" for top1 in row["top1"]))
        areas = row["explanations"]["methods"]["decision"]
        for curve in ("deletion_mean", "insertion_mean"):
            cells.append(f"{areas[curve]['mean']:.4f} ± {areas[curve]['interval']:.4f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def make_images(root: pathlib.Path) -> pathlib.Path:
    """An image folder of two classes, dark and bright noise, for `--quick`."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 10), ("test", 4)):
        for low, label in ((0, "dark"), (128, "bright")):
            (root / split / label).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                pixels = rng.integers(low, low + 128, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{number:02}.png")
    return root


if __name__ == "__main__":
    run(main, sys.argv[1:])
