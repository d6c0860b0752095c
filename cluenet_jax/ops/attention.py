"""Attention of points to clustered tokens, in blocks of points where all at once would not fit."""

import jax
import jax.numpy as jnp

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
    batch, heads, points, width = query.shape
    if points * key.shape[2] <= _MAX_WEIGHTS:
        return _attend(query, key, value)
    blocks = -(-points // _BLOCK)
    padded = jnp.pad(query, [(0, 0), (0, 0), (0, blocks * _BLOCK - points), (0, 0)])
    parts = jnp.moveaxis(padded.reshape(batch, heads, blocks, _BLOCK, width), 2, 0)
    attend_block = jax.checkpoint(lambda part: _attend(part, key, value), prevent_cse=False)
    out = jnp.moveaxis(jax.lax.map(attend_block, parts), 0, 2)
    return out.reshape(batch, heads, blocks * _BLOCK, width)[:, :, :points]


def _attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    logits = jnp.einsum("bgnd,bgmd->bgnm", query, key, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(logits * query.shape[-1] ** -0.5)
    return jnp.einsum("bgnm,bgmd->bgnd", weights.astype(value.dtype), value)
