"""Clustering of tokens by density peaks as reductions over rows of the matrix of distances.

The matrix is measured again for each reduction: XLA then fuses the product into it and stores
nothing. For 32 images of 3,136 tokens and 64 channels its compiler estimates 4.7 million cycles of
a TPU v5e for the smallest five and 5.0 for the nearest denser token (passes of minimum and mask
over a stored matrix: 51, `top_k`: 30, `approx_min_k` at recall 1.0: 13). It seems to count the
product and little of the comparisons, and nobody measured it. Centers are chosen by a search for
the strength of the last one, a few digits at a time: 0.6 million; sorting, or counting the stronger
tokens of each, takes 3.5. No loop ends by what an image holds.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cluenet_jax.ops.assign import argmax_rows
from cluenet_jax.ops.density_peaks import squared_distances, to_distance
from cluenet_jax.ops.one_hot import members, select


def density_peak_clusters(
    points: jax.Array,
    noise: jax.Array,
    num_clusters: Sequence[int],
    num_neighbors: int,
    *,
    block_entries: int,
) -> list[jax.Array]:
    """As `ops.density_peaks.density_peak_clustering`.

    Args:
      points: `[B, N, C]` float32.
      noise: `[B, N]`, added to the densities.
      num_clusters, num_neighbors: As for the plain form.
      block_entries: The distances of an image that exist at a time if they are not fused,
        about; larger images take a block of rows after the other.

    Returns:
      For each scale `[B, N]` int32 in 0 .. M-1.
    """
    tokens, width = points.shape[1:]
    rows = max(min(block_entries // tokens, tokens), 1)

    def one_image(points: jax.Array, noise: jax.Array) -> list[jax.Array]:
        norms = jnp.sum(points * points, axis=-1)

        def nearest(point: jax.Array, norm: jax.Array) -> jax.Array:
            return smallest(squared_distances(point, norm, points, norms), num_neighbors)

        squares = to_distance(_by_rows(nearest, rows, points, norms), width) ** 2
        density = jnp.exp(-jnp.mean(squares, axis=-1)) + noise

        # Else XLA would see the same product twice, and store it.
        unmerged = jax.lax.optimization_barrier(points)

        def to_denser(point: jax.Array, norm: jax.Array, own: jax.Array) -> jax.Array:
            squares = squared_distances(point, norm, unmerged, norms)
            return jnp.min(jnp.where(density > own[:, None], squares, jnp.inf), axis=-1)

        distance = to_distance(_by_rows(to_denser, rows, points, norms, density), width)
        # With the largest distance of the image tokens without a denser one come before all
        # others, at equal strength: so they do with an infinite one.
        strength = jnp.where(jnp.isinf(distance), jnp.inf, density * distance)
        rank = ranks(strength, max(num_clusters))
        chosen = (rank == jnp.arange(max(num_clusters))[:, None]).astype(jnp.float32)
        centers = select("mn,nc->mc", chosen, points)
        squares = squared_distances(centers, jnp.sum(centers * centers, axis=-1), points, norms)
        # Stored, which is little: with the product fused into the choice of the nearest center
        # libtpu 0.0.42 crashes for one image a chip of a v4.
        to_centers = jax.lax.optimization_barrier(to_distance(squares, width))
        return [_join(to_centers[:count], rank) for count in num_clusters]

    return jax.vmap(one_image)(points, noise)


def _by_rows(measure: Callable[..., jax.Array], rows: int, *arrays: jax.Array) -> jax.Array:
    """`measure` of all tokens, `rows` at a time, the last block filled up with zeros."""
    tokens = len(arrays[0])
    if rows == tokens:
        return measure(*arrays)
    filled = [jnp.pad(x, ((0, -tokens % rows), *((0, 0),) * (x.ndim - 1))) for x in arrays]
    blocks = tuple(x.reshape(-1, rows, *x.shape[1:]) for x in filled)
    measured = jax.lax.map(lambda block: measure(*block), blocks)
    return measured.reshape(-1, *measured.shape[2:])[:tokens]


def smallest(values: jax.Array, count: int) -> jax.Array:
    """The `count` smallest entries of each row, ascending: `[R, N]` to `[R, K]`.

    Equal entries count as often as they occur. One reduction: of the smallest of two parts
    of a row come the smallest of both.
    """

    def merge(a: Sequence[jax.Array], b: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
        # Against the other falling, the smaller of each pair are the smallest of all.
        both = [jnp.minimum(x, y) for x, y in zip(a, reversed(b), strict=True)]
        for turn in range(count):
            for i in range(turn % 2, count - 1, 2):
                x, y = both[i], both[i + 1]
                both[i], both[i + 1] = jnp.minimum(x, y), jnp.maximum(x, y)
        return tuple(both)

    infinite = np.float32(np.inf)
    filler = jnp.full(values.shape, infinite)
    operands = (values, *(filler,) * (count - 1))
    return jnp.stack(jax.lax.reduce(operands, (infinite,) * count, merge, (1,)), axis=-1)


def ranks(strength: jax.Array, count: int) -> jax.Array:
    """The number of tokens that come before each one: stronger, or equal and of lower index.

    Args:
      strength: `[N]` float32, at least 0.
      count: The ranks below it are told, 1 .. N.

    Returns:
      `[N]` int32; `count` for all tokens of this rank or above.
    """
    # In this order as the floats are, since none is negative.
    keys = jax.lax.bitcast_convert_type(strength, jnp.int32)
    last = _largest(keys, count)
    missing = count - jnp.sum(keys > last, dtype=jnp.int32)
    equal = keys == last
    chosen = (keys > last) | (equal & (jnp.cumsum(equal, dtype=jnp.int32) <= missing))
    # The chosen ones by index, then by strength: few enough to compare all with all.
    slot = jnp.cumsum(chosen, dtype=jnp.int32) - 1
    places = members(jnp.where(chosen, slot, count), count)
    own = jnp.sum(jnp.where(places, keys, 0), axis=-1)
    order = jnp.arange(count)
    before = (own > own[:, None]) | ((own == own[:, None]) & (order < order[:, None]))
    rank = jnp.sum(before, axis=-1, dtype=jnp.int32)
    return jnp.where(chosen, jnp.sum(jnp.where(places, rank[:, None], 0), axis=0), count)


def _largest(keys: jax.Array, count: int) -> jax.Array:
    """The `count`-th largest of `[N]` int32, none negative: four bits at a time, from the top."""
    value = jnp.int32(0)
    for shift in range(28, -1, -4):
        # The sign has no bit.
        digits = jnp.arange(8 if shift == 28 else 16, dtype=jnp.int32)
        tried = value + (digits << shift)
        enough = jnp.sum(keys >= tried[:, None], axis=-1, dtype=jnp.int32) >= count
        value += (jnp.sum(enough, dtype=jnp.int32) - 1) << shift
    return value


def _join(to_centers: jax.Array, rank: jax.Array) -> jax.Array:
    """`[M, N]` distances and the tokens' ranks, to the cluster of each token.

    A token of rank below M is a center, of itself.
    """
    return jnp.where(rank < len(to_centers), rank, argmax_rows(-to_centers))
