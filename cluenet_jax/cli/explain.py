"""Measures whether a model's explanations are faithful, over its whole evaluation set.

python -m cluenet_jax explain [--checkpoint=DIR] [--json=FILE]

Where the images have masks, clusters are compared with them, beside grids and SLIC superpixels.
"""

import argparse
import json
import pathlib

from cluenet_jax import explain
from cluenet_jax.checkpoints.load import load
from cluenet_jax.cli.checkpoints import OPTIONAL_CHECKPOINT_HELP, checkpoint_or_default
from cluenet_jax.cli.explanations import compare_with_masks, normalized_batches
from cluenet_jax.cli.images import eval_records
from cluenet_jax.errors import UserError


def main(argv: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m cluenet_jax explain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", help=OPTIONAL_CHECKPOINT_HELP)
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
    trained = load(checkpoint_or_default(args.checkpoint))
    records = (record for _, record in eval_records(trained, args.num_images))
    images = map(trained.task.see_record, records)
    faithfulness = explain.evaluate_explanations(
        trained.model,
        trained.score,
        trained.best_targets,
        trained.variables,
        normalized_batches(trained, images, args.batch_size),
        args.regions,
        args.seed,
    )
    numbers, text = faithfulness.to_json(), faithfulness.to_text()
    comparison = compare_with_masks(trained, args.num_images)
    if comparison is not None:
        text += f"\n\nClusters against the masks:\n{comparison.to_text()}"
        numbers["masks"] = comparison.compute()
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(numbers, indent=1) + "\n")
    print(text)
