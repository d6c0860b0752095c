"""Metrics of a checkpoint: `python -m cluenet_jax evaluate [--checkpoint=DIR]`."""

import argparse
import json
import pathlib

from cluenet_jax.cli.checkpoints import OPTIONAL_CHECKPOINT_HELP, checkpoint_or_default
from cluenet_jax.evaluation import evaluate_checkpoint


def main(argv: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m cluenet_jax evaluate", description=__doc__)
    parser.add_argument("--checkpoint", help=OPTIONAL_CHECKPOINT_HELP)
    parser.add_argument("--json", help="a file for all numbers")
    args = parser.parse_args(argv)
    evaluation = evaluate_checkpoint(checkpoint_or_default(args.checkpoint))
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(evaluation.to_json(), indent=1) + "\n")
    print(evaluation.to_text())
