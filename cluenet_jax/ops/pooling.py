"""Average pooling onto any grid, and the steps of cluster pooling (ICP).

Source: CLUENet (arXiv 2512.06345).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from cluenet_jax.ops.assign import argmax_rows
from cluenet_jax.ops.cosine import cosine_similarity
from cluenet_jax.ops.segment import SegmentSum, segment_sum


def cell_bounds(size: int, cells: int) -> list[tuple[int, int]]:
    """First pixel of each cell of an axis, and the first one after it."""
    return [(i * size // cells, -(-(i + 1) * size // cells)) for i in range(cells)]


@functools.cache
def _pooling_matrix(size: int, cells: int) -> np.ndarray:
    """`[cells, size]` averages of the pixels floor(i*size/cells) .. ceil((i+1)*size/cells)."""
    matrix = np.zeros((cells, size), np.float32)
    for cell, (start, stop) in enumerate(cell_bounds(size, cells)):
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
    multiply = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    pooled = multiply("hH,bHWc->bhWc", rows, x.astype(jnp.float32))
    return multiply("wW,bhWc->bhwc", columns, pooled).astype(x.dtype)


def nearest_center(centers: jax.Array, points: jax.Array) -> jax.Array:
    """The center of highest cosine similarity of every point, among all centers.

    Args:
      centers: `[B, M, C]`.
      points: `[B, N, C]`.

    Returns:
      `[B, N]` int32 in 0 .. M-1; the lowest among equals. It has no gradient.
    """
    return argmax_rows(cosine_similarity(centers, points))


def cluster_mean(
    values: jax.Array,
    centers: jax.Array,
    index: jax.Array,
    weights: jax.Array | None = None,
    counted: bool = True,
    segment_sum: SegmentSum = segment_sum,
) -> jax.Array:
    """Mean of each cluster's members and of its center.

    Args:
      values: `[B, N, C]`, one row per point.
      centers: `[B, M, C]`, one row per cluster, counted as one more member.
      index: `[B, N]` integers in 0 .. M-1, the cluster of each point.
      weights: `[B, N]`, what each point is multiplied by; None for 1.
      counted: Whether the sum is divided by the number of members (and 1), or by their weights
        (and 1).
      segment_sum: The form of `ops.segment.segment_sum`.

    Returns:
      `[B, M, C]`: `(sum of weighted members + center) / (members + 1)`; an empty
      cluster gives its center. Summed in float32, of the type of `values`.
    """
    num_clusters = centers.shape[1]
    members = jnp.ones((*index.shape, 1), values.dtype)
    summed = values
    if weights is not None:
        weights = weights.astype(jnp.float32)[..., None]
        summed = weights * values.astype(jnp.float32)
        members = members if counted else weights
    divisor = segment_sum(members, index, num_clusters)
    total = segment_sum(summed, index, num_clusters)
    return ((total + centers.astype(jnp.float32)) / (divisor + 1)).astype(values.dtype)
