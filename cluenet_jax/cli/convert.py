"""PyTorch weights as a checkpoint: `python -m cluenet_jax convert FILE DIR --backbone=NAME`."""

import argparse
import json
import pathlib
from typing import Any

from cluenet_jax.checkpoints.convert import convert
from cluenet_jax.config import as_tuples
from cluenet_jax.data import list_datasets
from cluenet_jax.errors import UserError
from cluenet_jax.tasks import TASKS


def main(argv: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m cluenet_jax convert", description=__doc__)
    parser.add_argument("source", help=".pth (needs torch), .safetensors or .npz")
    parser.add_argument("target", help="a new folder")
    parser.add_argument("--backbone", required=True, help="such as cluenet_tiny")
    parser.add_argument(
        "--options", default="{}", help="options of the backbone that differ, as JSON"
    )
    parser.add_argument("--task", default="classification", choices=tuple(TASKS))
    parser.add_argument("--head", default="", help="such as upernet; the task's usual one if not")
    parser.add_argument("--head_options", default="{}", help="options of the head, as JSON")
    parser.add_argument("--dataset", default="", help="what it was trained on")
    parser.add_argument(
        "--image_size", type=int, default=0, help="side, or shorter side, in pixels"
    )
    parser.add_argument("--names", help="a text file, the name of a target per line")
    args = parser.parse_args(argv)
    if args.dataset and args.dataset not in list_datasets():
        raise UserError(f"--dataset={args.dataset}: known are {', '.join(list_datasets())}.")
    convert(
        args.source,
        args.target,
        args.backbone,
        _read_options("--options", args.options),
        args.task,
        args.head,
        _read_options("--head_options", args.head_options),
        args.dataset,
        args.image_size,
        _read_names(args.names),
    )
    print(f"Checkpoint: {args.target}")


def _read_options(flag: str, text: str) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{flag}={text}: not JSON ({error}).") from error
    if not isinstance(given, dict):
        raise UserError(f'{flag}={text}: not an object, {{"name": value}}.')
    return {name: as_tuples(value) for name, value in given.items()}


def _read_names(path: str | None) -> list[str] | None:
    if path is None:
        return None
    file = pathlib.Path(path)
    if not file.is_file():
        raise UserError(f"--names={file}: there is no such file.")
    return [line.strip() for line in file.read_text().splitlines() if line.strip()]
