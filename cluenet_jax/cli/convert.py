"""PyTorch weights as a checkpoint: `python -m cluenet_jax convert FILE DIR --backbone=NAME`."""

import argparse
import json
import pathlib

from cluenet_jax.checkpoints.convert import convert
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
    parser.add_argument("--dataset", default="", help="what it was trained on")
    parser.add_argument("--image_size", type=int, default=0, help="side in pixels")
    parser.add_argument("--names", help="a text file, the name of a target per line")
    args = parser.parse_args(argv)
    if args.dataset and args.dataset not in list_datasets():
        raise UserError(f"--dataset={args.dataset}: known are {', '.join(list_datasets())}.")
    try:
        given = json.loads(args.options)
    except json.JSONDecodeError as error:
        raise UserError(f"--options={args.options}: not JSON ({error}).") from error
    convert(
        args.source,
        args.target,
        args.backbone,
        {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()},
        args.task,
        args.dataset,
        args.image_size,
        _read_names(args.names),
    )
    print(f"Checkpoint: {args.target}")


def _read_names(path: str | None) -> list[str] | None:
    if path is None:
        return None
    file = pathlib.Path(path)
    if not file.is_file():
        raise UserError(f"--names={file}: there is no such file.")
    return [line.strip() for line in file.read_text().splitlines() if line.strip()]
