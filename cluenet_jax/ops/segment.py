"""Sums over the members of clusters, for a batch of images at once."""

import jax
import jax.numpy as jnp


def segment_sum(values: jax.Array, index: jax.Array, num_segments: int) -> jax.Array:
    """Sums the points of each cluster.

    Args:
      values: `[B, N, C]`.
      index: `[B, N]` integers in 0 .. num_segments-1.
      num_segments: The clusters of an image, M.

    Returns:
      `[B, M, C]` of the type of `values`; zero where a cluster is empty.
    """
    batch, points, channels = values.shape
    offsets = jnp.arange(batch, dtype=index.dtype)[:, None] * num_segments
    flat = jax.ops.segment_sum(
        values.reshape(batch * points, channels),
        (index + offsets).reshape(-1),
        num_segments=batch * num_segments,
    )
    return flat.reshape(batch, num_segments, channels)
