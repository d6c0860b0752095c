"""Cosine similarity between centers and points."""

import jax
import jax.numpy as jnp

SHORTEST = 1e-12


def inverse_length(x: jax.Array) -> jax.Array:
    """1 over the Euclidean length of vectors, of those shorter than 1e-12 over 1e-12.

    Args:
      x: `[..., D]`, any float type.

    Returns:
      `[...]` float32.
    """
    square = jnp.sum(jnp.square(x.astype(jnp.float32)), axis=-1)
    # The maximum is taken on the square: the gradient of a square root at 0 is infinite.
    return jax.lax.rsqrt(jnp.maximum(square, SHORTEST**2))


def l2_normalize(x: jax.Array) -> jax.Array:
    """Divides vectors by their Euclidean length.

    Args:
      x: `[..., D]`, any float type.

    Returns:
      `[..., D]` float32, of length 1 (or 0 for the zero vector).
    """
    return x.astype(jnp.float32) * inverse_length(x)[..., None]


def cosine_similarity(centers: jax.Array, points: jax.Array) -> jax.Array:
    """Cosine of the angle between every center and every point.

    Args:
      centers: `[..., M, D]`.
      points: `[..., N, D]`.

    Returns:
      `[..., M, N]` float32 in -1 .. 1.
    """
    return inner_products(l2_normalize(centers), l2_normalize(points))


def inner_products(centers: jax.Array, points: jax.Array) -> jax.Array:
    """`[..., M, D]` and `[..., N, D]` to `[..., M, N]`, at the highest precision.

    Assignments depend on the order of these numbers, so they are never computed in a
    shorter type, as GPUs and TPUs do by default.
    """
    return jnp.einsum("...md,...nd->...mn", centers, points, precision=jax.lax.Precision.HIGHEST)
