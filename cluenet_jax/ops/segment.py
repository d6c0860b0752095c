"""Sums over the members of clusters, for a batch of images at once."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

SegmentSum = Callable[[jax.Array, jax.Array, int], jax.Array]


def segment_sum(values: jax.Array, index: jax.Array, num_segments: int) -> jax.Array:
    """Sums the points of each cluster, in float32.

    Args:
      values: `[B, N, C]`.
      index: `[B, N]` integers in 0 .. num_segments-1.
      num_segments: The clusters of an image, M.

    Returns:
      `[B, M, C]` float32; zero where a cluster is empty.
    """

    # Image by image: a single index of images and clusters would hide from XLA's partitioner
    # that each image stays on its device.
    def sum_image(values: jax.Array, index: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(values, index, num_segments)

    return jax.vmap(sum_image)(values.astype(jnp.float32), index)


def gradient(grad: jax.Array, index: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Gradient of `values`, of type `dtype`, from that of the sums `[B, M, C]`."""
    return jnp.take_along_axis(grad, index[..., None], axis=1).astype(dtype)
