"""Modules, parameters and MACs of a model: `python -m cluenet_jax summary cluenet_tiny`."""

import argparse

import jax
import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax.errors import UserError
from cluenet_jax.macs import NOT_PUBLISHED, count_macs
from cluenet_jax.models import create_model


def main(argv: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m cluenet_jax summary", description=__doc__)
    parser.add_argument("model", help="such as cluenet_tiny")
    parser.add_argument("--num_outputs", type=int, default=None, help="of the head")
    parser.add_argument("--image_size", type=int, default=224, help="side in pixels")
    parser.add_argument("--depth", type=int, default=3, help="levels of the table")
    args = parser.parse_args(argv)
    try:
        model = create_model(args.model, args.num_outputs)
        counts = count_macs(model, args.image_size)
    except ValueError as error:
        raise UserError(str(error)) from error
    images = jnp.zeros((1, args.image_size, args.image_size, 3))
    options = {"width": 130, "force_terminal": False}
    print(nn.tabulate(model, jax.random.key(0), depth=args.depth, console_kwargs=options)(images))
    print(
        f"{args.model} at {args.image_size}x{args.image_size}, one image: "
        f"{counts['published'] / 1e6:,.0f} M MACs as the papers count them, "
        f"{counts['unpublished'] / 1e6:,.0f} M more in {', '.join(NOT_PUBLISHED)}; XLA's cost "
        f"analysis, which counts every element-wise operation too: {counts['xla'] / 1e6:,.0f} M"
    )
