"""Clustering of tokens by density peaks, without the whole matrix of distances.

Distances are measured for a block of tokens at a time, which gives the nearest neighbors and
so the densities. The nearest denser token is among the neighbors for all but a few tokens, the
peaks of their surroundings; only those are compared with all others. Distances to the centers
are measured again.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from cluenet_jax.ops.cpu.argmax import argmax_rows
from cluenet_jax.ops.density_peaks import squared_distances, to_distance

TopIndices = Callable[[jax.Array, int], jax.Array]


def top_indices(values: jax.Array, count: int) -> jax.Array:
    """The greatest of `[..., N]`, falling: `[..., count]` int32, the lower index among equals."""
    return jax.lax.top_k(values, count)[1]


def density_peak_clusters(
    points: jax.Array,
    noise: jax.Array,
    num_clusters: Sequence[int],
    num_neighbors: int,
    *,
    block_entries: int,
    block_images: int,
    group_size: int,
    peak_block: int,
    top_indices: TopIndices = top_indices,
    argmax: Callable[[jax.Array], jax.Array] = argmax_rows,
) -> list[jax.Array]:
    """As `ops.density_peaks.density_peak_clustering`, in blocks.

    Args:
      points: `[B, N, C]` float32.
      noise: `[B, N]`, added to the densities.
      num_clusters, num_neighbors: As for the plain form.
      block_entries: The distances of an image that exist at a time, about.
      block_images: The images whose distances must fit in a block for all images to be
        clustered at once; if fewer fit, images follow one another. (The size of the batch does
        not decide: exports leave it open.) 0 for all at once, always.
      group_size: The entries of a row that are searched as a group, at most.
      peak_block: The tokens that are compared with all others at a time.
      top_indices: The search for the greatest entries.
      argmax: The search for the nearest center.

    Returns:
      For each scale `[B, N]` int32 in 0 .. M-1.
    """
    tokens, width = points.shape[1:]
    blocks = -(-(tokens**2) // block_entries)
    rows = -(-tokens // blocks)

    def one_image(inputs: tuple[jax.Array, jax.Array]) -> list[jax.Array]:
        points, noise = inputs
        # Without the barrier XLA computes the norms again for every block.
        norms = jax.lax.optimization_barrier(jnp.sum(points * points, axis=-1))
        squares, nearest = _nearest(points, norms, num_neighbors, rows, group_size, top_indices)
        density = jnp.exp(-jnp.mean(to_distance(squares, width) ** 2, axis=-1)) + noise
        squares = _to_denser(points, norms, density, squares, nearest, peak_block)
        distance = to_distance(squares, width)
        # With the largest distance of the image tokens without a denser one come before all
        # others, at equal strength: so they do with an infinite one.
        strength = jnp.where(jnp.isinf(distance), jnp.inf, density * distance)
        centers = top_indices(strength, max(num_clusters))
        # Few centers: measuring their distances again is cheaper than gathering them.
        squares = squared_distances(points[centers], norms[centers], points, norms)
        to_centers = to_distance(squares, width)
        return [_join(to_centers[:count], centers[:count], argmax) for count in num_clusters]

    if tokens**2 * block_images > block_entries:
        return jax.lax.map(one_image, (points, noise))
    return jax.vmap(one_image)((points, noise))


def _nearest(
    points: jax.Array,
    norms: jax.Array,
    num_neighbors: int,
    rows: int,
    group_size: int,
    top_indices: TopIndices,
) -> tuple[jax.Array, jax.Array]:
    """The squared distances of each token's nearest ones and their indices, `[N, K]` each.

    Args:
      points, norms: `[N, C]` and `[N]`.
      rows: The tokens of a block.
    """
    tokens = len(points)

    def measure(block: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        squares = squared_distances(*block, points, norms)
        # Without the barrier XLA computes the squares again for every pass. Roots keep the
        # order, so they are taken of the smallest only.
        squares = jax.lax.optimization_barrier(squares)
        return smallest(squares, num_neighbors, group_size, top_indices)

    # The last block is filled up.
    filled = [jnp.pad(x, ((0, -tokens % rows), *((0, 0),) * (x.ndim - 1))) for x in (points, norms)]
    blocks = tuple(x.reshape(-1, rows, *x.shape[1:]) for x in filled)
    squares, nearest = jax.lax.map(measure, blocks)
    return tuple(x.reshape(-1, num_neighbors)[:tokens] for x in (squares, nearest))


def _to_denser(
    points: jax.Array,
    norms: jax.Array,
    density: jax.Array,
    squares: jax.Array,
    nearest: jax.Array,
    peak_block: int,
) -> jax.Array:
    """The squared distance to the nearest denser token `[N]`, infinite where there is none.

    A denser one among the nearest is it. Only the tokens without, the peaks of their
    surroundings, are compared with all others.

    Args:
      points, norms, density: `[N, C]`, `[N]` and `[N]`.
      squares, nearest: `[N, K]`, squared distances of the nearest tokens and their indices.
      peak_block: The peaks that are compared at a time.
    """
    tokens = len(density)
    denser = density[nearest] > density[:, None]
    to_denser = jnp.min(jnp.where(denser, squares, jnp.inf), axis=-1)
    # Flat images have many tokens of the highest density; they need no search.
    peaks = jnp.isinf(to_denser) & (density < density.max())
    size = min(peak_block, tokens)
    # Peaks first; the last token again and again to fill the last block.
    order = jnp.pad(jnp.argsort(~peaks, stable=True), (0, -tokens % size), mode="edge")

    def compare(block: jax.Array, to_denser: jax.Array) -> jax.Array:
        index = jax.lax.dynamic_slice_in_dim(order, block * size, size)
        to_all = squared_distances(points[index], norms[index], points, norms)
        denser = density > density[index, None]
        return to_denser.at[index].set(jnp.min(jnp.where(denser, to_all, jnp.inf), axis=-1))

    return jax.lax.fori_loop(0, -(-jnp.sum(peaks) // size), compare, to_denser)


def _join(
    to_centers: jax.Array, centers: jax.Array, argmax: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """`[M, N]` distances and `[M]` tokens that are centers, to the cluster of each token."""
    return argmax(-to_centers).at[centers].set(jnp.arange(len(centers), dtype=jnp.int32))


def smallest(
    values: jax.Array, count: int, group_size: int, top_indices: TopIndices = top_indices
) -> tuple[jax.Array, jax.Array]:
    """The `count` smallest entries of each row and their indices, ascending.

    Equal entries count as often as they occur. All are in the `count` groups of
    adjacent entries whose own smallest are the smallest, so only those are searched.

    Args:
      values: `[..., N]`.
      count: K, 1 .. N.
      group_size: The entries of a group, at most; rows that do not divide into groups are
        searched whole.
      top_indices: The search for the groups.

    Returns:
      `[..., K]` and `[..., K]` int32 in 0 .. N-1.
    """
    *leading, entries = values.shape
    size = max(d for d in range(1, min(entries, group_size) + 1) if entries % d == 0)
    if size < 8 or entries // size <= 2 * count:
        return _smallest_of_all(values, count)
    groups = values.reshape(*leading, entries // size, size)
    chosen = top_indices(-groups.min(axis=-1), count)
    candidates = jnp.take_along_axis(groups, chosen[..., None], axis=-2)
    least, index = _smallest_of_all(candidates.reshape(*leading, count * size), count)
    group = jnp.take_along_axis(chosen, index // size, axis=-1)
    return least, group * size + index % size


def _smallest_of_all(values: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """As `smallest`, with two passes over the rows for each."""
    entries = values.shape[-1]
    # As floats, exact up to 2**24, they are compared faster.
    order = jnp.arange(entries, dtype=jnp.float32)
    smallest, indices = [], []
    for _ in range(count):
        least = values.min(axis=-1, keepdims=True)
        # Without the barrier it is fused into the reduction, which then goes entry by entry.
        candidates = jax.lax.optimization_barrier(jnp.where(values <= least, order, entries))
        # Of NaN alone nothing is least.
        index = jnp.minimum(candidates.min(axis=-1, keepdims=True), entries - 1)
        values = jnp.where(order == index, jnp.inf, values)
        smallest.append(least[..., 0])
        indices.append(index[..., 0].astype(jnp.int32))
    return jnp.stack(smallest, axis=-1), jnp.stack(indices, axis=-1)
