"""Average pooling onto any grid, and the steps of cluster pooling (ICP)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from cluenet_jax.ops.segment import segment_sum
from cluenet_jax.ops.similarity import cosine_similarity


@functools.cache
def _pooling_matrix(size: int, cells: int) -> np.ndarray:
    """`[cells, size]` averages of the pixels floor(i*size/cells) .. ceil((i+1)*size/cells)."""
    matrix = np.zeros((cells, size), np.float32)
    for cell in range(cells):
        start, stop = cell * size // cells, -(-(cell + 1) * size // cells)
        matrix[cell, start:stop] = 1 / (stop - start)
    return matrix


def adaptive_avg_pool(x: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """Averages an image over the cells of a grid of any size.

    Cell i of an axis of n pixels and m cells covers floor(i n / m) up to
    ceil((i+1) n / m), so cells may overlap, and a grid finer than the image
    repeats pixels.

    Args:
      x: `[B, H, W, C]`.
      grid: Rows and columns of the grid, (h, w), each at least 1.

    Returns:
      `[B, h, w, C]` of the type of `x`, averaged in float32.
    """
    _, height, width, _ = x.shape
    h, w = grid
    if height % h == 0 and width % w == 0:
        cells = x.reshape(x.shape[0], h, height // h, w, width // w, x.shape[-1])
        return cells.mean(axis=(2, 4), dtype=jnp.float32).astype(x.dtype)
    # Averaging is separable: one small matrix per axis.
    rows, columns = _pooling_matrix(height, h), _pooling_matrix(width, w)
    pooled = jnp.einsum("hH,bHWc->bhWc", rows, x.astype(jnp.float32))
    return jnp.einsum("wW,bhWc->bhwc", columns, pooled).astype(x.dtype)


def nearest_centre(centres: jax.Array, points: jax.Array) -> jax.Array:
    """The centre of highest cosine similarity, for every point, among all centres.

    No gradient passes.

    Args:
      centres: `[B, M, C]`.
      points: `[B, N, C]`.

    Returns:
      `[B, N]` int32 in 0 .. M-1; the lowest index among equals.
    """
    centres, points = jax.lax.stop_gradient((centres, points))
    return jax.lax.argmax(cosine_similarity(centres, points), 1, jnp.int32)


def cluster_mean(values: jax.Array, centres: jax.Array, index: jax.Array) -> jax.Array:
    """Mean of each cluster's members and of its centre.

    Args:
      values: `[B, N, C]`, one row per point.
      centres: `[B, M, C]`, one row per cluster, counted as one more member.
      index: `[B, N]` integers in 0 .. M-1, the cluster of each point.

    Returns:
      `[B, M, C]`: `(sum of members + centre) / (members + 1)`; an empty
      cluster gives its centre. Summed in float32, of the type of `values`.
    """
    num_clusters = centres.shape[1]
    values32, centres32 = values.astype(jnp.float32), centres.astype(jnp.float32)
    ones = jnp.ones((*index.shape, 1), jnp.float32)
    members = segment_sum(ones, index, num_clusters)
    total = segment_sum(values32, index, num_clusters)
    return ((total + centres32) / (members + 1)).astype(values.dtype)
