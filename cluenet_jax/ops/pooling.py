"""Average pooling onto any grid, and the steps of cluster pooling (ICP)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from cluenet_jax.ops.argmax import argmax_rows, two_reductions
from cluenet_jax.ops.segment import segment_sum
from cluenet_jax.ops.similarity import l2_normalize

# Similarities that exist at a time: what stays in a CPU's caches (8 MB); elsewhere 1 GB.
_CPU_BLOCK, _BLOCK, _TILE = 2**21, 2**28, 4096


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

    No gradient passes. The similarities of all pairs exist only in blocks, so memory grows
    with the points, not with their square.

    Args:
      centres: `[B, M, C]`.
      points: `[B, N, C]`.

    Returns:
      `[B, N]` int32 in 0 .. M-1; the lowest index among equals.
    """
    centres, points = jax.lax.stop_gradient((centres, points))
    centres, points = l2_normalize(centres), l2_normalize(points)
    return jax.lax.platform_dependent(
        centres,
        points,
        cpu=functools.partial(nearest_in_blocks, entries=_CPU_BLOCK),
        default=functools.partial(nearest_in_blocks, entries=_BLOCK),
    )


def nearest_in_blocks(centres: jax.Array, points: jax.Array, entries: int) -> jax.Array:
    """As `nearest_centre`, of unit vectors, with at most about `entries` similarities at a time.

    Blocks are whole images, as many as fit, or some centres and points of one image.
    """
    batch, count, _ = centres.shape
    pairs = count * points.shape[1]
    # The batch of a program that is exported has no size yet.
    if not isinstance(batch, int) or batch * pairs <= entries:
        return argmax_rows(_products(centres, points))
    if pairs <= entries:
        images = max(n for n in range(1, batch) if batch % n == 0 and n * pairs <= entries)
        groups = [x.reshape(batch // images, images, *x.shape[1:]) for x in (centres, points)]
        found = jax.lax.map(lambda pair: argmax_rows(_products(*pair)), groups)
        return found.reshape(batch, -1)
    # Tiles of points too: a thin product of few centres with all points is slow.
    tiles = -(-points.shape[1] // _TILE)
    tile = -(-points.shape[1] // tiles)
    # Blocks of equal size: the last one would otherwise repeat much.
    blocks = -(-count // max(entries // tile, 1))
    rows = -(-count // blocks)
    filled = jnp.pad(points, ((0, 0), (0, tiles * tile - points.shape[1]), (0, 0)))
    filled = filled.reshape(batch, tiles, tile, -1)

    def one_image(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        return jax.lax.map(lambda points: _running_argmax(pair[0], points, rows), pair[1])

    found = jax.lax.map(one_image, (centres, filled))
    return found.reshape(batch, -1)[:, : points.shape[1]]


def _running_argmax(centres: jax.Array, points: jax.Array, rows: int) -> jax.Array:
    """`[M, C]` and `[N, C]` to `[N]`, `rows` centres at a time."""
    count = len(centres)

    def compare(best: tuple[jax.Array, jax.Array], start: jax.Array):
        scores = _products(jax.lax.dynamic_slice_in_dim(centres, start, rows), points)
        highest, row = two_reductions(scores)
        better = highest > best[0]
        return (jnp.where(better, highest, best[0]), jnp.where(better, start + row, best[1])), None

    # The last block ends with the last centre and may see some again: they are not better.
    starts = jnp.minimum(jnp.arange(0, count, rows, dtype=jnp.int32), count - rows)
    first = jnp.full(len(points), -jnp.inf), jnp.zeros(len(points), jnp.int32)
    return jax.lax.scan(compare, first, starts)[0][1]


def _products(centres: jax.Array, points: jax.Array) -> jax.Array:
    return jnp.einsum("...mc,...nc->...mn", centres, points, precision=jax.lax.Precision.HIGHEST)


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
