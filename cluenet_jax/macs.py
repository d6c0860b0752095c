"""MACs (multiply-accumulate operations) of a model, as the papers count them and all."""

import collections
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax import ops
from cluenet_jax.ops.one_hot import SELECTION

# What the published figures leave out, by the scopes it is in: CLUENet's
# aggregation, which the reference computes by a fused attention that counters pass
# over, and of ClusTR the distances and the attention to all but the coarsest scale.
NOT_PUBLISHED = ("aggregation", "clustering", "finer_scale")


def count_macs(model: nn.Module, image_size: int) -> dict[str, float]:
    """MACs of one image, by kind.

    Args:
      model: Of `create_model`.
      image_size: Side of the square image, pixels.

    Returns:
      - `published`: matrix products and convolutions without those of
        `NOT_PUBLISHED`: the convention that agrees with the papers' figures. Lookups and
        sums of members, which accelerators do as products, are none.
      - `unpublished`: the products left out there.
      - `xla`: half of what XLA's cost analysis counts, where every element-wise
        operation is one more.
    """
    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    # A CPU's forms and an accelerator's, whose operations are not all products that count.
    apply = ops.traced_for(model.apply, None)
    counts = collections.Counter(published=0, unpublished=0)
    for equation, scope in _equations(jax.make_jaxpr(apply)(variables, images).jaxpr):
        if SELECTION in scope:
            continue
        kind = "unpublished" if any(name in scope for name in NOT_PUBLISHED) else "published"
        counts[kind] += _macs(equation)
    lowered = jax.jit(apply).lower(variables, images)
    return {**counts, "xla": lowered.cost_analysis()["flops"] / 2}


def _equations(jaxpr: Any, outer: str = "") -> Iterator[tuple[Any, str]]:
    """All operations, of inner programs too, with the names of the scopes they are in."""
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
            inner = [max(inner, key=lambda rows: sum(_macs(e) for e, _ in rows))]
        elif equation.primitive.name == "scan":
            inner = inner * equation.params["length"]
        for rows in inner:
            yield from rows


def _macs(equation: Any) -> int:
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
