"""Clustering of tokens by density peaks (DPC-KNN), on the whole matrix of distances.

A token is a center if it is dense and far from every denser one::

    D_ij = |x_i - x_j| / sqrt(C)
    density_i = exp(-mean of the K smallest D_i.^2)          itself included
    distance_i = the smallest D_ij to a denser token j, or the largest D of the
                 image where none is denser
    centers = the tokens of highest density * distance
    every token joins its nearest center, a center joins itself

Source: ClusTR (arXiv 2208.13138), after M. Du et al., Study on density peaks
clustering based on k-nearest neighbors, 2016. Ties go to the lower index; the
published code adds random noise to the densities instead.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from cluenet_jax.ops.assign import argmax_rows


def density_peak_clustering(
    points: jax.Array,
    num_clusters: Sequence[int],
    num_neighbors: int = 5,
    noise_key: jax.Array | None = None,
) -> list[jax.Array]:
    """Assigns tokens to clusters, at several scales that share all distances.

    No gradient passes.

    Args:
      points: `[B, N, C]`.
      num_clusters: The number of clusters of each scale, 1 .. N.
      num_neighbors: The tokens, itself included, that a density is measured over, 1 .. N.
      noise_key: A key for uniform noise of up to 1e-6 on the densities, which breaks ties
        at random as the published code does; None for no noise.

    Returns:
      For each scale `[B, N]` int32 in 0 .. M-1; clusters are numbered from the
      strongest center on, so cluster 0 is the same at all scales.

    Raises:
      ValueError: Fewer tokens than clusters or neighbors.
    """
    batch, tokens, width = points.shape
    check_sizes(tokens, num_clusters, num_neighbors)
    points = jax.lax.stop_gradient(points).astype(jnp.float32)
    norms = jnp.sum(points * points, axis=-1)
    distance = to_distance(squared_distances(points, norms, points, norms), width)

    nearest = jnp.sort(distance, axis=-1)[..., :num_neighbors]
    density = jnp.exp(-jnp.mean(nearest**2, axis=-1)) + density_noise(noise_key, batch, tokens)
    denser = density[:, None, :] > density[:, :, None]
    to_denser = jnp.min(jnp.where(denser, distance, jnp.inf), axis=-1)
    # The largest distance puts a token without a denser one before all others; so does infinity.
    strength = jnp.where(denser.any(axis=-1), density * to_denser, jnp.inf)
    centers = jnp.argsort(-strength, axis=-1, stable=True)[:, : max(num_clusters)]

    to_centers = jnp.take_along_axis(distance, centers[..., None], axis=1)
    image = jnp.arange(batch)[:, None]
    return [
        argmax_rows(-to_centers[:, :count])
        .at[image, centers[:, :count]]
        .set(jnp.arange(count, dtype=jnp.int32))
        for count in num_clusters
    ]


def check_sizes(tokens: int, num_clusters: Sequence[int], num_neighbors: int) -> None:
    """Raises a ValueError if an image has fewer tokens than clusters or neighbors."""
    if tokens < max(num_clusters) or min(num_clusters) < 1:
        raise ValueError(f"{tokens} tokens cannot form {tuple(num_clusters)} clusters.")
    if not 1 <= num_neighbors <= tokens:
        raise ValueError(f"{tokens} tokens have no {num_neighbors} neighbors, themselves included.")


def density_noise(key: jax.Array | None, batch: int, tokens: int) -> jax.Array:
    """`[B, N]` uniform noise of up to 1e-6, zeros without a key."""
    if key is None:
        return jnp.zeros((batch, tokens))
    return 1e-6 * jax.random.uniform(key, (batch, tokens))


def squared_distances(
    a: jax.Array, a_norms: jax.Array, b: jax.Array, b_norms: jax.Array
) -> jax.Array:
    """Between all points of two sets; by rounding sometimes a little below 0.

    Args:
      a, a_norms: `[..., M, C]` and their squared norms `[..., M]`, float32.
      b, b_norms: `[..., N, C]` and `[..., N]`.

    Returns:
      `[..., M, N]`.
    """
    products = jnp.matmul(a, jnp.swapaxes(b, -1, -2), precision=jax.lax.Precision.HIGHEST)
    return a_norms[..., :, None] + b_norms[..., None, :] - 2 * products


def to_distance(squares: jax.Array, width: int) -> jax.Array:
    """D of the squared distances of points of `width` channels."""
    return jnp.sqrt(jnp.maximum(squares, 0) / width)
