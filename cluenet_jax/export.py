"""A checkpoint to a file that runs without this package, or to PyTorch's names.

python -m cluenet_jax.export CHECKPOINT FOLDER
python -m cluenet_jax.export CHECKPOINT FILE.safetensors
"""

import argparse
import json
import pathlib

import jax
import jax.numpy as jnp

from cluenet_jax import cli
from cluenet_jax.data import normalize
from cluenet_jax.errors import UserError
from cluenet_jax.train import checkpoint
from cluenet_jax.weights import to_torch, write_safetensors

PLATFORMS = ("cpu", "cuda", "tpu")


def export_program(loaded: checkpoint.Loaded) -> bytes:
    """The network as a serialised `jax.export` program (StableHLO), weights included.

    It takes uint8 images `[batch, S, S, 3]`, batch of any size and S the
    checkpoint's `image_size`, normalises them and returns float32 logits.
    """
    meta = loaded.meta

    def predict(images: jax.Array) -> jax.Array:
        return loaded.model.apply(
            {"params": loaded.params}, normalize(images, meta["mean"], meta["std"])
        )

    (batch,) = jax.export.symbolic_shape("batch")
    size = meta["image_size"]
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)
    return jax.export.export(jax.jit(predict), platforms=PLATFORMS)(images).serialize()


def main(argv: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m cluenet_jax.export", description=__doc__)
    parser.add_argument("checkpoint", help="a workdir or WORKDIR/checkpoints/STEP")
    parser.add_argument("out", help="a folder, or a file .safetensors")
    args = parser.parse_args(argv)
    loaded = checkpoint.load(args.checkpoint)
    out = pathlib.Path(args.out)
    if out.suffix == ".safetensors":
        try:
            weights = to_torch({"params": loaded.params}, loaded.model)
        except ValueError as error:
            raise UserError(f"{args.checkpoint}: {error}") from error
        out.parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(weights, str(out))
    else:
        if out.is_file():
            raise UserError(
                f"{out} is a file; expected a folder, or a name ending in .safetensors."
            )
        program = export_program(loaded)
        out.mkdir(parents=True, exist_ok=True)
        (out / "model.stablehlo").write_bytes(program)
        about = {k: v for k, v in loaded.meta.items() if k not in ("config", "options")}
        (out / "model.json").write_text(json.dumps(about, indent=1))
    print(f"Exported: {out}")


if __name__ == "__main__":
    cli.run(main)
