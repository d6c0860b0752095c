"""A checkpoint as a program that runs without this package, or as one file of weights.

python -m cluenet_jax export CHECKPOINT FOLDER
python -m cluenet_jax export CHECKPOINT FILE.safetensors

The file has the weights under PyTorch's names, and what all tools here need to take it as a
checkpoint.
"""

import argparse
import pathlib

from cluenet_jax.checkpoints.load import load
from cluenet_jax.checkpoints.one_file import SUFFIX, write_model_file
from cluenet_jax.checkpoints.storage import is_bucket
from cluenet_jax.cli.checkpoints import CHECKPOINT_HELP
from cluenet_jax.errors import UserError
from cluenet_jax.export import write_program


def main(argv: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m cluenet_jax export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", help=CHECKPOINT_HELP)
    parser.add_argument("out", help="a folder, or a file .safetensors")
    args = parser.parse_args(argv)
    if is_bucket(args.out):
        raise UserError(f"{args.out} is in a bucket: export to a disk, then copy.")
    trained = load(args.checkpoint)
    out = pathlib.Path(args.out)
    if out.suffix == SUFFIX:
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_model_file(out, trained.model, trained.variables, trained.metadata)
        except ValueError as error:
            raise UserError(f"{args.checkpoint}: {error}") from error
    elif out.is_file():
        raise UserError(f"{out} is a file; expected a folder, or a name ending in .safetensors.")
    else:
        write_program(trained, out)
    print(f"Exported: {out}")
