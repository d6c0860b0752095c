"""What a network is made of.

python -m cluenet_jax.summary cluenet_tiny
"""

import argparse
import collections
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax import cli
from cluenet_jax.errors import UserError
from cluenet_jax.models import create_model

# What the published figures leave out, by the scopes it stands in: CLUENet's
# aggregation, which the reference computes by a fused attention that counters pass
# over, and of ClusTR the distances and the attention to all but the coarsest scale.
NOT_PUBLISHED = ("aggregation", "clustering", "finer_scale")


def count_multiply_adds(model: nn.Module, image_size: int) -> dict[str, float]:
    """Multiply-adds of one image, by kind.

    Args:
      model: Of `create_model`.
      image_size: Side of the square image, pixels.

    Returns:
      `published`: matrix products and convolutions without those of
        `NOT_PUBLISHED`: the convention that agrees with the papers' figures.
      `others`: the products left out there.
      `xla`: half of what XLA's cost analysis counts, where every element-wise
        operation is one more.
    """
    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    def apply(variables: Any, images: jax.Array) -> jax.Array:
        return model.apply(variables, images)

    counts = collections.Counter(published=0, others=0)
    for equation, scope in _equations(jax.make_jaxpr(apply)(variables, images).jaxpr):
        kind = "others" if any(name in scope for name in NOT_PUBLISHED) else "published"
        counts[kind] += _multiply_adds(equation)
    lowered = jax.jit(apply).lower(variables, images)
    return {**counts, "xla": lowered.cost_analysis()["flops"] / 2}


def _equations(jaxpr: Any, outer: str = "") -> Iterator[tuple[Any, str]]:
    """All operations, of inner programs too, with the names of the scopes they stand in."""
    for equation in jaxpr.eqns:
        scope = f"{outer}/{equation.source_info.name_stack}"
        yield equation, scope
        inner = []
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                part = getattr(part, "jaxpr", part)
                if hasattr(part, "eqns"):
                    inner.append(list(_equations(part, scope)))
        if equation.primitive.name == "cond":
            # One branch runs: the ways of different backends to do the same.
            inner = [max(inner, key=lambda found: sum(_multiply_adds(e) for e, _ in found))]
        elif equation.primitive.name == "scan":
            inner = inner * equation.params["length"]
        for found in inner:
            yield from found


def _multiply_adds(equation: Any) -> int:
    out = math.prod(equation.outvars[0].aval.shape)
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return out * math.prod(shape[axis] for axis in contracted)
    if equation.primitive.name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        outputs = equation.params["dimension_numbers"].rhs_spec[0]
        return out * math.prod(kernel) // kernel[outputs]
    return 0


def main(argv: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m cluenet_jax.summary", description=__doc__)
    parser.add_argument("model", help="such as cluenet_tiny")
    parser.add_argument("--num_classes", type=int, default=None)
    parser.add_argument("--image_size", type=int, default=224, help="side in pixels")
    parser.add_argument("--depth", type=int, default=2, help="how deep the table goes")
    args = parser.parse_args(argv)
    try:
        model = create_model(args.model, args.num_classes)
        counts = count_multiply_adds(model, args.image_size)
    except ValueError as error:
        raise UserError(str(error)) from error
    images = jnp.zeros((1, args.image_size, args.image_size, 3))
    options = {"width": 130, "force_terminal": False}
    print(nn.tabulate(model, jax.random.key(0), depth=args.depth, console_kwargs=options)(images))
    print(
        f"{args.model} at {args.image_size}x{args.image_size}, one image: "
        f"{counts['published'] / 1e6:,.0f} M multiply-adds as the papers count them, "
        f"{counts['others'] / 1e6:,.0f} M more in {', '.join(NOT_PUBLISHED)}; XLA's cost analysis, "
        f"which counts every element-wise operation too: {counts['xla'] / 1e6:,.0f} M"
    )


if __name__ == "__main__":
    cli.run(main)
