"""Sums over the members of clusters, with a single index of images and clusters."""

import jax
import jax.numpy as jnp


def segment_sum(values: jax.Array, index: jax.Array, num_segments: int) -> jax.Array:
    """As `ops.segment.segment_sum`."""
    batch, points, channels = values.shape
    offsets = jnp.arange(batch, dtype=index.dtype)[:, None] * num_segments
    flat = jax.ops.segment_sum(
        values.astype(jnp.float32).reshape(batch * points, channels),
        (index + offsets).reshape(-1),
        num_segments=batch * num_segments,
    )
    return flat.reshape(batch, num_segments, channels)


def gradient(grad: jax.Array, index: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """As `ops.segment.gradient`, with the single index too."""
    values = jnp.zeros((*index.shape, grad.shape[-1]), dtype)
    return jax.vjp(lambda values: segment_sum(values, index, grad.shape[1]), values)[1](grad)[0]
