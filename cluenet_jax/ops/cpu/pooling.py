"""Nearest centers in blocks: the similarities of all pairs never exist at once.

Memory grows with the points, not with their square, and a block stays in the CPU's caches.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from cluenet_jax.ops.cosine import inner_products, l2_normalize
from cluenet_jax.ops.cpu.argmax import argmax_rows, max_and_row


def nearest_center(
    centers: jax.Array,
    points: jax.Array,
    *,
    block_entries: int,
    tile_points: int,
    argmax: Callable[[jax.Array], jax.Array] = argmax_rows,
) -> jax.Array:
    """As `ops.pooling.nearest_center`, in blocks.

    A block is whole images, as many as fit, or a part of the centers and points of one image.

    Args:
      centers: `[B, M, C]`.
      points: `[B, N, C]`.
      block_entries: The similarities that exist at a time, about.
      tile_points: The points of a part of an image, at most.
      argmax: The argmax over the centers where all of an image are in the block.

    Returns:
      `[B, N]` int32 in 0 .. M-1; the lowest among equals.
    """
    centers, points = l2_normalize(centers), l2_normalize(points)
    batch, num_centers, _ = centers.shape
    pairs = num_centers * points.shape[1]
    # The batch of a program that is exported has no size yet.
    if not isinstance(batch, int) or batch * pairs <= block_entries:
        return argmax(inner_products(centers, points))
    if pairs <= block_entries:
        images = max(n for n in range(1, batch) if batch % n == 0 and n * pairs <= block_entries)
        groups = [x.reshape(batch // images, images, *x.shape[1:]) for x in (centers, points)]
        index = jax.lax.map(lambda group: argmax(inner_products(*group)), groups)
        return index.reshape(batch, -1)
    return _nearest_in_tiles(centers, points, block_entries, tile_points)


def _nearest_in_tiles(
    centers: jax.Array, points: jax.Array, block_entries: int, tile_points: int
) -> jax.Array:
    """As `nearest_center` of unit vectors, image by image, a tile of points at a time."""
    batch, num_centers, _ = centers.shape
    num_points = points.shape[1]
    # Tiles of points too: a thin product of few centers with all points is slow.
    tiles = -(-num_points // tile_points)
    tile = -(-num_points // tiles)
    # Blocks of equal size: the last one would otherwise repeat much.
    blocks = -(-num_centers // max(block_entries // tile, 1))
    rows = -(-num_centers // blocks)
    filled = jnp.pad(points, ((0, 0), (0, tiles * tile - num_points), (0, 0)))
    filled = filled.reshape(batch, tiles, tile, -1)

    def one_image(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        return jax.lax.map(lambda points: _running_argmax(pair[0], points, rows), pair[1])

    index = jax.lax.map(one_image, (centers, filled))
    return index.reshape(batch, -1)[:, :num_points]


def _running_argmax(centers: jax.Array, points: jax.Array, rows: int) -> jax.Array:
    """`[M, C]` and `[N, C]` to `[N]`, `rows` centers at a time."""
    num_centers = len(centers)

    def compare(best: tuple[jax.Array, jax.Array], start: jax.Array):
        block = jax.lax.dynamic_slice_in_dim(centers, start, rows)
        highest, row = max_and_row(inner_products(block, points))
        better = highest > best[0]
        return (jnp.where(better, highest, best[0]), jnp.where(better, start + row, best[1])), None

    # The last block ends with the last center and may repeat centers: they are not better.
    starts = jnp.arange(0, num_centers, rows, dtype=jnp.int32)
    starts = jnp.minimum(starts, num_centers - rows)
    first = jnp.full(len(points), -jnp.inf), jnp.zeros(len(points), jnp.int32)
    return jax.lax.scan(compare, first, starts)[0][1]
