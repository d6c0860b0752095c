"""Measures whether a network's maps are right, over its whole test set.

python -m cluenet_jax.map_scores --checkpoint=DIR [--json=FILE]
"""

import argparse
import json
import pathlib
from collections.abc import Iterator

import numpy as np

from cluenet_jax import cli, explain
from cluenet_jax.data import normalize
from cluenet_jax.errors import UserError
from cluenet_jax.predict import groups
from cluenet_jax.train import checkpoint
from cluenet_jax.visualize import read_test_pictures


def main(argv: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m cluenet_jax.map_scores", description=__doc__)
    parser.add_argument("--checkpoint", required=True, help="a workdir or WORKDIR/checkpoints/STEP")
    parser.add_argument("--regions", type=int, default=4, help="K of the decision map")
    parser.add_argument("--test_pictures", type=int, help="how many; by default all")
    parser.add_argument("--batch_size", type=int, default=32, help="pictures at a time")
    parser.add_argument("--seed", type=int, default=0, help="of the random orders and regions")
    parser.add_argument("--json", help="a file for all numbers")
    args = parser.parse_args(argv)
    for flag in ("regions", "test_pictures", "batch_size"):
        value = getattr(args, flag)
        if value is not None and value < 1:
            raise UserError(f"--{flag}={value} must be at least 1.")
    loaded = checkpoint.load(args.checkpoint)
    pictures = (image for _, image, _ in read_test_pictures(loaded.meta, args.test_pictures))
    batches = _normal(pictures, args.batch_size, loaded.meta)
    scores = explain.evaluate_maps(
        loaded.model, {"params": loaded.params}, batches, args.regions, args.seed
    )
    print(scores.to_text())
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(scores.to_json(), indent=1) + "\n")


def _normal(pictures: Iterator[np.ndarray], size: int, meta: dict) -> Iterator[np.ndarray]:
    for group in groups(pictures, size):
        yield np.asarray(normalize(np.stack(group), meta["mean"], meta["std"]))


if __name__ == "__main__":
    cli.run(main)
