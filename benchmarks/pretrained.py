"""Puts the weights of a run into the package, with a card made of the run's own records.

    python -m benchmarks.pretrained WORKDIR MODEL.DATASET
    python -m benchmarks.pretrained runs/cifar100 cluenet_nano.cifar100

Writes cluenet_jax/pretrained/MODEL.DATASET.safetensors and .md. A run that read the dataset as a
folder of images is said to be of DATASET, so that `evaluate` finds the data on any machine.
"""

import argparse
import dataclasses
import datetime
import importlib
import os
import pathlib
import subprocess
from typing import Any

import jax
from etils import epath
from flax import traverse_util

from cluenet_jax.checkpoints.load import TrainedModel, load
from cluenet_jax.checkpoints.metadata import Metadata
from cluenet_jax.checkpoints.one_file import write_model_file
from cluenet_jax.config import config_from_dict
from cluenet_jax.data import describe_dataset
from cluenet_jax.errors import UserError
from cluenet_jax.pretrained import card_file, pretrained_file
from cluenet_jax.train.metric_writer import METRICS, read_metrics

ROOT = pathlib.Path(__file__).parent.parent
MAX_BYTES = 2 * 10**6
# What is known of the data beside its name.
DATA = {
    "cifar100": (
        "CIFAR-100: 50,000 images of 32x32 pixels to train on, 10,000 to evaluate, in 100 classes "
        "(A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009, "
        "https://www.cs.toronto.edu/~kriz/cifar.html). Its page states no license. The images are "
        "not included here."
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workdir", help="of the run; its best checkpoint is taken")
    parser.add_argument("name", help="MODEL.DATASET")
    args = parser.parse_args()
    try:
        write(args.workdir, args.name)
    except UserError as error:
        parser.error(str(error))
    print(f"{pretrained_file(args.name)}\n{card_file(args.name)}")


def write(workdir: str, name: str) -> None:
    """Writes the weights and their card.

    Raises:
      UserError: It is no workdir, the run is of another model or data, was not evaluated, or is too
        large.
    """
    trained = load(workdir)
    if not (epath.Path(workdir) / METRICS).exists():
        raise UserError(f"{workdir} has no {METRICS}, of which the card is made: give a workdir.")
    records = read_metrics(epath.Path(workdir) / METRICS)
    metadata = named_metadata(trained, name)
    text = card(name, trained, records)
    file = pretrained_file(name)
    # What is in the package stays there until it is known that this fits.
    new = file.with_name(f"{file.name}.new")
    try:
        write_model_file(new, trained.model, trained.variables, metadata)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from error
    size = new.stat().st_size
    if size > MAX_BYTES:
        new.unlink()
        raise UserError(f"{name} has {size:,} bytes; the package takes {MAX_BYTES:,}.")
    os.replace(new, file)
    card_file(name).write_text(text)


def named_metadata(trained: TrainedModel, name: str) -> Metadata:
    """The metadata of a run with its data under the dataset's own name.

    Raises:
      UserError: The run is of another model, or of other data than the name says.
    """
    model, _, dataset = name.partition(".")
    metadata = trained.metadata
    if metadata.config["model"]["backbone"] != model:
        raise UserError(f"{name}: the run trained {metadata.config['model']['backbone']}.")
    if metadata.info.num_classes != describe_dataset(dataset).num_classes:
        raise UserError(f"{name}: the run has {metadata.info.num_classes} classes.")
    if not metadata.metrics:
        raise UserError(f"{name}: the checkpoint was not evaluated.")
    config = config_from_dict(metadata.config)
    config.data.name, config.data.dir = dataset, ""
    config.data.train_split = config.data.eval_split = ""
    info = dataclasses.replace(metadata.info, name=dataset)
    return dataclasses.replace(metadata, config=config.to_dict(), info=info)


def card(name: str, trained: TrainedModel, records: list[dict[str, Any]]) -> str:
    """The card, every figure of it from the checkpoint or the run's `metrics.jsonl`."""
    metadata, (model, _, dataset) = trained.metadata, name.partition(".")
    config, info, best = metadata.config, metadata.info, metadata.best_metric
    evaluations = [r for r in records if f"eval/{best}" in r]
    epochs = {r["step"]: r["epoch"] for r in records if "epoch" in r}
    parameters = sum(leaf.size for leaf in jax.tree.leaves(trained.variables["params"]))
    preprocessing = trained.preprocessing
    facts = {
        "model": f"`{model}`, {parameters:,} parameters, float32",
        "task": f"{config['task']}, {info.num_classes} classes",
        "images": f"{preprocessing.image_size}x{preprocessing.image_size}, RGB, normalized with "
        f"mean {preprocessing.mean} and standard deviation {preprocessing.std}",
        "training": f"{metadata.step:,} steps of {config['optim']['batch_size']} images"
        + (f", {epochs[metadata.step]:.4g} epochs" if metadata.step in epochs else "")
        + f"; seed {config['seed']}",
        "chosen": f"the best {best} of the run's evaluations, {len(evaluations)}, all on the "
        f"evaluation set; the last: {evaluations[-1][f'eval/{best}']:.4f}",
        "written": f"{datetime.date.today().isoformat()}, by commit {_commit()}",
        "trained with": ", ".join(f"{k} {v}" for k, v in metadata.versions.items()),
    }
    lines = [
        f"# {name}",
        "",
        f"`{model}` trained from scratch on {dataset} with this package.",
        "",
        *_table("", "", facts),
        "",
        "Metrics on the evaluation set:",
        "",
        *_table("metric", "value", {k: f"{v:.6g}" for k, v in sorted(metadata.metrics.items())}),
        "",
        "## Recipe",
        "",
        *("```bash", _command(config, dataset), "```"),
        "",
        "## Data",
        "",
        DATA.get(dataset, f"{dataset}; see `configs/`."),
    ]
    if info.name != dataset:
        lines += ["", f"The run read it as `--config.data.name={info.name}`."]
    lines += [
        "",
        f"Classes, by number from 0: {', '.join(info.class_names)}.",
        "",
        "## Use",
        "",
        *("```python", f'trained = cluenet_jax.load_pretrained("{name}")', "```"),
        "",
        f"`--checkpoint={name}` for the tools, `--config.init.checkpoint={name} "
        f"--config.model.backbone={model}` to fine-tune. The weights are under this package's "
        "license, Apache-2.0.",
    ]
    return "\n".join(lines) + "\n"


def _table(left: str, right: str, rows: dict[str, str]) -> list[str]:
    body = [f"| {key} | {value} |" for key, value in rows.items()]
    return [f"| {left} | {right} |", "|---|---|", *body]


def _command(config: dict[str, Any], dataset: str) -> str:
    """The command of a run: the nearest recipe, best of the same dataset, and what differs."""
    ours = traverse_util.flatten_dict(config_from_dict(config).to_dict(), sep=".")
    choices = []
    for path in sorted((ROOT / "configs").glob("*.py")):
        theirs = importlib.import_module(f"configs.{path.stem}").get_config().to_dict()
        theirs = traverse_util.flatten_dict(theirs, sep=".")
        if theirs["task"] == ours["task"]:
            differing = {k: v for k, v in ours.items() if v != theirs[k]}
            of_others = not path.stem.startswith(dataset)
            choices.append((of_others, len(differing), path.name, differing))
    *_, recipe, differing = min(choices)
    # Where the data lay on that machine says nothing on another one.
    differing = {k: "ROOT" if k == "data.dir" else v for k, v in differing.items()}
    flags = [f"--config.{key}={_value(value)}" for key, value in differing.items()]
    parts = [f"python main.py --config=configs/{recipe}", *flags, "--workdir=WORKDIR"]
    return " \\\n    ".join(parts)


def _value(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f'"{text}"' if isinstance(value, tuple) else text


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
