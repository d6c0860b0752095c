"""Adaptive average pooling by constant matrices, and nearest centers without a loop over images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from cluenet_jax.ops import pooling
from cluenet_jax.ops.assign import argmax_rows
from cluenet_jax.ops.cosine import l2_normalize
from cluenet_jax.ops.one_hot import product, select


@functools.cache
def _cells(size: int, cells: int) -> np.ndarray:
    """`[cells, size]` bool, the pixels of each cell of an axis."""
    pixels = np.arange(size)
    return np.stack(
        [(pixels >= start) & (pixels < stop) for start, stop in pooling.cell_bounds(size, cells)]
    )


def adaptive_avg_pool(x: jax.Array, grid: tuple[int, int], *, max_entries: int) -> jax.Array:
    """As `ops.pooling.adaptive_avg_pool`, by one matrix for both axes.

    The matrix is a constant of the program, so one of more than `max_entries` is not made: then
    equal cells are summed as windows, and others take the plain form.
    """
    batch, height, width, channels = x.shape
    if height * width * grid[0] * grid[1] > max_entries:
        if height % grid[0] or width % grid[1]:
            return pooling.adaptive_avg_pool(x, grid)
        cell = (1, height // grid[0], width // grid[1], 1)
        sums = jax.lax.reduce_window(
            x.astype(jnp.float32), np.float32(0), jax.lax.add, cell, cell, "VALID"
        )
        return (sums / np.float32(cell[1] * cell[2])).astype(x.dtype)
    rows, columns = _cells(height, grid[0]), _cells(width, grid[1])
    # Sums of pixels, divided afterwards: a matrix of ones is exact in any type.
    cells = np.kron(rows, columns)
    sums = _cell_sums(x.reshape(batch, height * width, channels), cells)
    means = sums / cells.sum(axis=1, dtype=np.float32)[:, None]
    return means.astype(x.dtype).reshape(batch, *grid, channels)


def _cell_sums(x: jax.Array, cells: np.ndarray) -> jax.Array:
    """`[B, N, C]` and `[M, N]` to `[B, M, C]` float32."""
    return select("mn,bnc->bmc", jnp.asarray(cells, x.dtype), x)


def nearest_center(centers: jax.Array, points: jax.Array, *, block_entries: int) -> jax.Array:
    """As `ops.pooling.nearest_center`, all images at once.

    Args:
      centers: `[B, M, C]`.
      points: `[B, N, C]`.
      block_entries: The similarities of an image that exist at a time, about; larger images
        take a block of centers after the other.

    Returns:
      `[B, N]` int32 in 0 .. M-1; the lowest among equals.
    """
    # The length of a point makes no center nearer than another.
    centers = l2_normalize(centers)
    batch, num_centers, width = centers.shape
    num_points = points.shape[1]
    if num_centers * num_points <= block_entries:
        return argmax_rows(product("bmd,bnd->bmn", centers, points))
    rows = max(block_entries // num_points, 1)
    filled = jnp.pad(centers, ((0, 0), (0, -num_centers % rows), (0, 0)))
    blocks = jnp.swapaxes(filled.reshape(batch, -1, rows, width), 0, 1)

    def compare(best: tuple[jax.Array, jax.Array], block: tuple[jax.Array, jax.Array]):
        block_centers, start = block
        row = start + jnp.arange(rows, dtype=jnp.int32)
        similarity = product("bmd,bnd->bmn", block_centers, points)
        similarity = jnp.where(row[:, None] < num_centers, similarity, -jnp.inf)
        highest, index = similarity.max(axis=-2), start + argmax_rows(similarity)
        better = highest > best[0]
        return (jnp.where(better, highest, best[0]), jnp.where(better, index, best[1])), None

    shape = (batch, num_points)
    first = jnp.full(shape, -jnp.inf), jnp.zeros(shape, jnp.int32)
    starts = jnp.arange(0, num_centers, rows, dtype=jnp.int32)
    return jax.lax.scan(compare, first, (blocks, starts))[0][1]
