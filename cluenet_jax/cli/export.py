"""A checkpoint as a file that runs without this package, or under PyTorch's names.

python -m cluenet_jax export CHECKPOINT FOLDER
python -m cluenet_jax export CHECKPOINT FILE.safetensors
"""

import argparse
import pathlib

from cluenet_jax.checkpoints.load import load
from cluenet_jax.errors import UserError
from cluenet_jax.export import write_program
from cluenet_jax.weights import to_torch, write_safetensors


def main(argv: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m cluenet_jax export", description=__doc__)
    parser.add_argument("checkpoint", help="a workdir or WORKDIR/checkpoints/STEP")
    parser.add_argument("out", help="a folder, or a file .safetensors")
    args = parser.parse_args(argv)
    trained = load(args.checkpoint)
    out = pathlib.Path(args.out)
    if out.suffix == ".safetensors":
        try:
            weights = to_torch(trained.variables, trained.model)
        except ValueError as error:
            raise UserError(f"{args.checkpoint}: {error}") from error
        out.parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(weights, str(out))
    elif out.is_file():
        raise UserError(f"{out} is a file; expected a folder, or a name ending in .safetensors.")
    else:
        write_program(trained, out)
    print(f"Exported: {out}")
