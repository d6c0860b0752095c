"""Attention of points to clustered tokens, in blocks of points where all at once would not fit."""

import jax
import jax.numpy as jnp

from cluenet_jax.ops.chunks import in_chunks

# Weights of an image and head, N x M, that may be in memory at once, and the points of a block.
_MAX_WEIGHTS = 2**26
_BLOCK = 4096


def attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """softmax(Q K^T / sqrt(D)) V of each head; the softmax is float32.

    Args:
      query: `[B, G, N, D]`.
      key: `[B, G, M, D]`.
      value: `[B, G, M, D]`.

    Returns:
      `[B, G, N, D]` of the type of the values. Where N * M is large, the weights of a block of
      points are in memory at a time, in the gradient too, which computes them again.
    """
    if query.shape[2] * key.shape[2] <= _MAX_WEIGHTS:
        return _attend(query, key, value)

    def attend_block(points: jax.Array) -> jax.Array:
        return _attend(points.swapaxes(1, 2), key, value).swapaxes(1, 2)

    attend_again = jax.checkpoint(attend_block, prevent_cse=False)
    return in_chunks(attend_again, _BLOCK, query.swapaxes(1, 2)).swapaxes(1, 2)


def _attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    logits = jnp.einsum("bgnd,bgmd->bgnm", query, key, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(logits * query.shape[-1] ** -0.5)
    return jnp.einsum("bgnm,bgmd->bgnd", weights.astype(value.dtype), value)
