"""Metrics of a checkpoint: `python -m cluenet_jax evaluate --checkpoint=DIR`."""

import argparse
import json
import pathlib

from cluenet_jax.evaluation import evaluate_checkpoint


def main(argv: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m cluenet_jax evaluate", description=__doc__)
    parser.add_argument("--checkpoint", required=True, help="a workdir or WORKDIR/checkpoints/STEP")
    parser.add_argument("--json", help="a file for all numbers")
    args = parser.parse_args(argv)
    evaluation = evaluate_checkpoint(args.checkpoint)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(evaluation.to_json(), indent=1) + "\n")
    print(evaluation.to_text())
