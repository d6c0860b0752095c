"""Clustering tokens by density peaks (DPC-KNN), and merging the tokens of a cluster.

A token is a centre if it is dense and far from every denser one:

    D_ij = |x_i - x_j| / sqrt(C)
    density_i = exp(-mean of the k smallest D_i.^2)          itself included
    distance_i = the smallest D_ij to a denser token j, or the largest D of the
                 image where none is denser
    centres = the tokens of highest density * distance
    every token joins its nearest centre, a centre joins itself

Source: ClusTR (arXiv 2208.13138), after M. Du et al., Study on density peaks
clustering based on k-nearest neighbors, 2016. Ties go to the lower index; the
published code adds random noise to the densities instead.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from cluenet_jax.ops.argmax import argmax_rows
from cluenet_jax.ops.segment import segment_sum

# Above this many tokens images are clustered one after the other: the
# distances of a single one take 256 MB.
_ONE_BY_ONE = 8192
# On a CPU so are those whose distances would not stay in its cache together (the size of
# the batch is not asked for: exports leave it open). Within an image this many entries,
# 8 MB, are measured at a time: several passes go over them.
_BLOCK = 2**21
# Entries of a row that are looked at as a group, at most.
_GROUP = 64


def density_peak_clustering(
    points: jax.Array,
    num_clusters: Sequence[int],
    neighbours: int = 5,
    noise_key: jax.Array | None = None,
) -> list[jax.Array]:
    """Assigns tokens to clusters, at several scales that share all distances.

    No gradient passes.

    Args:
      points: `[B, N, C]`.
      num_clusters: For each scale the number of clusters, 1 .. N.
      neighbours: Tokens, itself included, that a density is measured over, 1 .. N.
      noise_key: Adds uniform noise of up to 1e-6 to the densities, to break ties at
        random as the published code does.

    Returns:
      For each scale `[B, N]` int32 in 0 .. M-1; clusters are numbered from the
      strongest centre on, so cluster 0 is the same at all scales.

    Raises:
      ValueError: Fewer tokens than clusters or neighbours.
    """
    batch, tokens, _ = points.shape
    if tokens < max(num_clusters) or min(num_clusters) < 1:
        raise ValueError(f"{tokens} tokens cannot form {tuple(num_clusters)} clusters.")
    if not 1 <= neighbours <= tokens:
        raise ValueError(f"{tokens} tokens have no {neighbours} neighbours, themselves included.")
    noise = jnp.zeros((batch, tokens))
    if noise_key is not None:
        noise = 1e-6 * jax.random.uniform(noise_key, (batch, tokens))
    points = jax.lax.stop_gradient(points).astype(jnp.float32)

    def cluster(rows: int, one_by_one: bool):
        def all_images(points: jax.Array, noise: jax.Array) -> list[jax.Array]:
            return _cluster(points, noise, tuple(num_clusters), neighbours, rows)

        def each_image(points: jax.Array, noise: jax.Array) -> list[jax.Array]:
            found = jax.lax.map(lambda one: all_images(one[0][None], one[1][None]), (points, noise))
            return [index[:, 0] for index in found]

        return each_image if one_by_one else all_images

    return jax.lax.platform_dependent(
        points,
        noise,
        cpu=cluster(min(max(_BLOCK // tokens, 1), tokens), tokens**2 > _BLOCK // 8),
        default=cluster(tokens, tokens > _ONE_BY_ONE),
    )


def _cluster(
    points: jax.Array,
    noise: jax.Array,
    num_clusters: tuple[int, ...],
    neighbours: int,
    rows: int,
) -> list[jax.Array]:
    """`[B, N, C]` and `[B, N]` to the assignments of all scales, working on `rows` at a time."""
    tokens, width = points.shape[1:]

    # Roots keep the order, so they are taken of what is found, not of all that is compared.
    def measure(block: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        # Otherwise XLA computes them anew in every pass.
        squares = jax.lax.optimization_barrier(squared_distances(block, points))
        nearest = to_distance(smallest(squares, neighbours), width)
        return jnp.mean(nearest**2, axis=-1), squares.max(axis=-1), squares

    spread, largest, squares = jax.lax.map(measure, _to_blocks(points, rows))
    density = jnp.exp(-_from_blocks(spread, tokens)) + noise

    def to_denser(block: tuple[jax.Array, jax.Array]) -> jax.Array:
        squares, own = block
        denser = density[:, None] > own[..., None]
        return jnp.min(jnp.where(denser, squares, jnp.inf), axis=-1)

    distance = _from_blocks(jax.lax.map(to_denser, (squares, _to_blocks(density, rows))), tokens)
    distance = to_distance(distance, width)
    farthest = to_distance(_from_blocks(largest, tokens).max(axis=1, keepdims=True), width)
    distance = jnp.where(jnp.isinf(distance), farthest, distance)
    _, centres = jax.lax.top_k(density * distance, max(num_clusters))

    # Few centres: measuring their distances again is cheaper than gathering them.
    strongest = jnp.take_along_axis(points, centres[..., None], axis=1)
    to_centres = to_distance(squared_distances(strongest, points), width)
    return [_join(to_centres[:, :count], centres[:, :count]) for count in num_clusters]


@jax.vmap
def _join(to_centres: jax.Array, centres: jax.Array) -> jax.Array:
    """`[M, N]` distances and `[M]` tokens that are centres, to the cluster of each token."""
    index = argmax_rows(-to_centres)
    return index.at[centres].set(jnp.arange(len(centres), dtype=jnp.int32))


def squared_distances(a: jax.Array, b: jax.Array) -> jax.Array:
    """`[B, M, C]` and `[B, N, C]` to `[B, M, N]` float32, by rounding a little below 0 at times."""
    products = jnp.einsum("bmc,bnc->bmn", a, b, precision=jax.lax.Precision.HIGHEST)
    squares_a, squares_b = jnp.sum(a * a, axis=-1), jnp.sum(b * b, axis=-1)
    return squares_a[:, :, None] + squares_b[:, None] - 2 * products


def to_distance(squares: jax.Array, width: int) -> jax.Array:
    """D of the squared distances of points of so many channels."""
    return jnp.sqrt(jnp.maximum(squares, 0) / width)


def _to_blocks(x: jax.Array, rows: int) -> jax.Array:
    """`[B, N, ...]` to `[blocks, B, rows, ...]`, the last block filled up."""
    batch, tokens = x.shape[:2]
    blocks = -(-tokens // rows)
    filled = jnp.pad(x, ((0, 0), (0, blocks * rows - tokens), *((0, 0),) * (x.ndim - 2)))
    return jnp.moveaxis(filled.reshape(batch, blocks, rows, *x.shape[2:]), 1, 0)


def _from_blocks(x: jax.Array, tokens: int) -> jax.Array:
    """`[blocks, B, rows]` to `[B, tokens]`, without the filling."""
    return jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1)[:, :tokens]


def smallest(values: jax.Array, count: int) -> jax.Array:
    """The `count` smallest entries of each row, ascending: `[..., N]` to `[..., count]`.

    Equal entries count as often as they stand there. They all are in the `count` groups of
    neighbouring entries whose own smallest are the smallest, so only those are searched.
    """
    *rest, entries = values.shape
    size = max(d for d in range(1, min(entries, _GROUP) + 1) if entries % d == 0)
    if size < 8 or entries // size <= 2 * count:
        return _smallest_of_all(values, count)
    groups = values.reshape(*rest, entries // size, size)
    _, chosen = jax.lax.top_k(-groups.min(axis=-1), count)
    found = jnp.take_along_axis(groups, chosen[..., None], axis=-2)
    return _smallest_of_all(found.reshape(*rest, count * size), count)


def _smallest_of_all(values: jax.Array, count: int) -> jax.Array:
    """As `smallest`, with a pass over the rows for each."""
    found = []
    value = jnp.full(values.shape[:-1], -jnp.inf, values.dtype)
    for taken in range(count):
        repeats = jnp.sum(values <= value[..., None], axis=-1) > taken
        larger = jnp.min(jnp.where(values > value[..., None], values, jnp.inf), axis=-1)
        value = jnp.where(repeats, value, larger)
        found.append(value)
    return jnp.stack(found, axis=-1)


def merge_tokens(
    tokens: jax.Array, weights: jax.Array, index: jax.Array, num_clusters: int
) -> jax.Array:
    """Weighted mean of the tokens of each cluster.

    Args:
      tokens: `[B, N, C]`.
      weights: `[B, N, 1]`, positive.
      index: `[B, N]` integers in 0 .. num_clusters-1.
      num_clusters: M.

    Returns:
      `[B, M, C]` of the type of `tokens`: `sum w x / (sum w + 1e-6)`, summed in
      float32; differentiable in tokens and weights.
    """
    weights = weights.astype(jnp.float32)
    weighted = weights * tokens.astype(jnp.float32)
    total = segment_sum(weighted, index, num_clusters)
    mass = segment_sum(weights, index, num_clusters)
    return (total / (mass + 1e-6)).astype(tokens.dtype)
