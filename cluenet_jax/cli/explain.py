"""Measures whether a model's explanations are faithful, over its whole evaluation set.

python -m cluenet_jax explain --checkpoint=DIR [--json=FILE]
"""

import argparse
import json
import pathlib

import numpy as np

from cluenet_jax import explain
from cluenet_jax.checkpoints.load import load
from cluenet_jax.cli.images import batched, eval_images
from cluenet_jax.errors import UserError


def main(argv: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m cluenet_jax explain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", required=True, help="a workdir or WORKDIR/checkpoints/STEP")
    parser.add_argument("--regions", type=int, default=4, help="K of the decision map")
    parser.add_argument("--num_images", type=int, help="how many; by default all")
    parser.add_argument("--batch_size", type=int, default=32, help="images at a time")
    parser.add_argument("--seed", type=int, default=0, help="of the random orders and regions")
    parser.add_argument("--json", help="a file for all numbers")
    args = parser.parse_args(argv)
    for flag in ("regions", "num_images", "batch_size"):
        value = getattr(args, flag)
        if value is not None and value < 1:
            raise UserError(f"--{flag}={value} must be at least 1.")
    trained = load(args.checkpoint)
    images = (image for _, image, _ in eval_images(trained, args.num_images))
    batches = (
        np.asarray(trained.preprocessing.normalize(np.stack(batch)))
        for batch in batched(images, args.batch_size)
    )
    faithfulness = explain.evaluate_explanations(
        trained.model,
        trained.score,
        trained.best_targets,
        trained.variables,
        batches,
        args.regions,
        args.seed,
    )
    print(faithfulness.to_text())
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(faithfulness.to_json(), indent=1) + "\n")
