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

# Distances of an image that exist at a time: several passes go over them, so on a CPU they should
# stay in its cache (8 MB); elsewhere 64 MB.
_CPU_BLOCK, _BLOCK = 2**21, 2**24
# On a CPU images are clustered one after the other if not as many fit into a block. (The size of
# the batch is not asked for: exports leave it open.) Elsewhere all at once: a loop over images
# would not be divided among devices.
_CPU_IMAGES = 8
# Entries of a row that are looked at as a group, at most.
_GROUP = 64
# Tokens that are compared with all others at a time, having no denser one nearby.
_PEAKS = 32


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

    def cluster(entries: int, one_by_one: bool):
        blocks = -(-(tokens**2) // entries)

        def image(one: tuple[jax.Array, jax.Array]) -> list[jax.Array]:
            return _cluster(*one, tuple(num_clusters), neighbours, rows=-(-tokens // blocks))

        if one_by_one:
            return lambda points, noise: jax.lax.map(image, (points, noise))
        return lambda points, noise: jax.vmap(image)((points, noise))

    return jax.lax.platform_dependent(
        points,
        noise,
        cpu=cluster(_CPU_BLOCK, one_by_one=tokens**2 * _CPU_IMAGES > _CPU_BLOCK),
        default=cluster(_BLOCK, one_by_one=False),
    )


def _cluster(
    points: jax.Array,
    noise: jax.Array,
    num_clusters: tuple[int, ...],
    neighbours: int,
    rows: int,
) -> list[jax.Array]:
    """`[N, C]` and `[N]` to the assignments of all scales, working on `rows` tokens at a time."""
    tokens, width = points.shape
    # Without the barriers XLA computes norms for every block, and squares for every pass, anew.
    norms = jax.lax.optimization_barrier(jnp.sum(points * points, axis=-1))

    # Roots keep the order, so they are taken of what is found, not of all that is compared.
    def measure(block: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        squares = squared_distances(*block, points, norms)
        return smallest(jax.lax.optimization_barrier(squares), neighbours)

    # The last block is filled up.
    filled = [jnp.pad(x, ((0, -tokens % rows), *((0, 0),) * (x.ndim - 1))) for x in (points, norms)]
    found = jax.lax.map(measure, tuple(x.reshape(-1, rows, *x.shape[1:]) for x in filled))
    squares, nearest = (x.reshape(-1, neighbours)[:tokens] for x in found)
    density = jnp.exp(-jnp.mean(to_distance(squares, width) ** 2, axis=-1)) + noise
    distance = to_distance(_to_denser(points, norms, density, squares, nearest), width)
    # With the largest distance of the image tokens without a denser one come before all others,
    # at equal strength: so they do with an infinite one.
    strength = jnp.where(jnp.isinf(distance), jnp.inf, density * distance)
    centres = _places_of_greatest(strength, max(num_clusters))

    # Few centres: measuring their distances again is cheaper than gathering them.
    squares = squared_distances(points[centres], norms[centres], points, norms)
    to_centres = to_distance(squares, width)
    return [_join(to_centres[:count], centres[:count]) for count in num_clusters]


def _to_denser(
    points: jax.Array,
    norms: jax.Array,
    density: jax.Array,
    squares: jax.Array,
    nearest: jax.Array,
) -> jax.Array:
    """The squared distance to the nearest denser token, infinite where there is none.

    A denser one among the nearest is it. Only the tokens without, the peaks of their
    surroundings, are compared with all others.

    Args:
      points, norms, density: `[N, C]`, `[N]` and `[N]`.
      squares, nearest: `[N, K]`, squared distances of the nearest tokens and which they are.

    Returns:
      `[N]`.
    """
    tokens = len(density)
    denser = density[nearest] > density[:, None]
    found = jnp.min(jnp.where(denser, squares, jnp.inf), axis=-1)
    # Flat pictures have many tokens of the highest density; they need no search.
    peaks = jnp.isinf(found) & (density < density.max())
    many = min(_PEAKS, tokens)
    # Peaks first; the last token again and again to fill the last part.
    order = jnp.pad(jnp.argsort(~peaks, stable=True), (0, -tokens % many), mode="edge")

    def compare(part: jax.Array, found: jax.Array) -> jax.Array:
        some = jax.lax.dynamic_slice_in_dim(order, part * many, many)
        to_all = squared_distances(points[some], norms[some], points, norms)
        denser = density > density[some, None]
        return found.at[some].set(jnp.min(jnp.where(denser, to_all, jnp.inf), axis=-1))

    return jax.lax.fori_loop(0, -(-jnp.sum(peaks) // many), compare, found)


def _join(to_centres: jax.Array, centres: jax.Array) -> jax.Array:
    """`[M, N]` distances and `[M]` tokens that are centres, to the cluster of each token."""
    index = argmax_rows(-to_centres)
    return index.at[centres].set(jnp.arange(len(centres), dtype=jnp.int32))


def squared_distances(
    a: jax.Array, a_norms: jax.Array, b: jax.Array, b_norms: jax.Array
) -> jax.Array:
    """Between all points of two sets, by rounding a little below 0 at times.

    Args:
      a, a_norms: `[M, C]` and their squared norms `[M]`, float32.
      b, b_norms: `[N, C]` and `[N]`.

    Returns:
      `[M, N]`.
    """
    products = jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
    return a_norms[:, None] + b_norms - 2 * products


def to_distance(squares: jax.Array, width: int) -> jax.Array:
    """D of the squared distances of points of so many channels."""
    return jnp.sqrt(jnp.maximum(squares, 0) / width)


def _places_of_greatest(values: jax.Array, count: int) -> jax.Array:
    """`[..., N]` to `[..., count]` int32, falling; the first ones of equals."""
    return jax.lax.platform_dependent(
        values,
        cpu=lambda values: jax.lax.top_k(values, count)[1],
        # Of top_k XLA does not divide a batch among devices.
        default=lambda values: jnp.argsort(-values, axis=-1, stable=True)[..., :count],
    )


def smallest(values: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """The `count` smallest entries of each row and their places, ascending.

    Equal entries count as often as they stand there. All are in the `count` groups of
    neighbouring entries whose own smallest are the smallest, so only those are searched.

    Args:
      values: `[..., N]`.
      count: K, 1 .. N.

    Returns:
      `[..., K]` and `[..., K]` int32 in 0 .. N-1.
    """
    *rest, entries = values.shape
    size = max(d for d in range(1, min(entries, _GROUP) + 1) if entries % d == 0)
    if size < 8 or entries // size <= 2 * count:
        return _smallest_of_all(values, count)
    groups = values.reshape(*rest, entries // size, size)
    chosen = _places_of_greatest(-groups.min(axis=-1), count)
    found = jnp.take_along_axis(groups, chosen[..., None], axis=-2)
    found, places = _smallest_of_all(found.reshape(*rest, count * size), count)
    group = jnp.take_along_axis(chosen, places // size, axis=-1)
    return found, group * size + places % size


def _smallest_of_all(values: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """As `smallest`, with two passes over the rows for each."""
    entries = values.shape[-1]
    # As floats, exact up to 2**24, they are compared faster.
    order = jnp.arange(entries, dtype=jnp.float32)
    found, places = [], []
    for _ in range(count):
        least = values.min(axis=-1, keepdims=True)
        # Without the barrier it is fused into the reduction, which then goes entry by entry.
        here = jax.lax.optimization_barrier(jnp.where(values <= least, order, entries))
        # Of NaN alone nothing is least.
        place = jnp.minimum(here.min(axis=-1, keepdims=True), entries - 1)
        values = jnp.where(order == place, jnp.inf, values)
        found.append(least[..., 0])
        places.append(place[..., 0].astype(jnp.int32))
    return jnp.stack(found, axis=-1), jnp.stack(places, axis=-1)


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
