"""Sums over the members of clusters as products with a one-hot matrix, and their gradient.

A product's work grows with points times clusters, so images of very many of both keep the
plain form.
"""

import jax
import jax.numpy as jnp

from cluenet_jax.ops import segment
from cluenet_jax.ops.one_hot import members, select, take_rows


def segment_sum(
    values: jax.Array, index: jax.Array, num_segments: int, *, max_entries: int
) -> jax.Array:
    """As `ops.segment.segment_sum`; the one-hot matrix of an image has `max_entries` at most."""
    if num_segments * index.shape[-1] > max_entries:
        return segment.segment_sum(values, index, num_segments)
    chosen = members(index, num_segments)
    if values.shape[-1] == 1 and values.dtype == jnp.float32:
        # A product of highest precision with a single column would leave a TPU's matrix unit idle.
        column = values[..., 0].astype(jnp.float32)
        return jnp.sum(jnp.where(chosen, column[..., None, :], 0), axis=-1)[..., None]
    return select("bmn,bnc->bmc", chosen.astype(values.dtype), values)


def gradient(grad: jax.Array, index: jax.Array, dtype: jnp.dtype, *, max_entries: int) -> jax.Array:
    """As `ops.segment.gradient`; `max_entries` as for the sum."""
    if grad.shape[-2] * index.shape[-1] > max_entries:
        return segment.gradient(grad, index, dtype)
    if grad.shape[-1] == 1:
        chosen = members(index, grad.shape[-2])
        return jnp.sum(jnp.where(chosen, grad, 0), axis=-2)[..., None].astype(dtype)
    # A row is copied, not summed, so it may be rounded first.
    return take_rows(grad.astype(dtype), index)
