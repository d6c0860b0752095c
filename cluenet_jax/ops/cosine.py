"""Cosine similarity between centers and points."""

import jax
import jax.numpy as jnp


def l2_normalize(x: jax.Array, eps: float = 1e-12) -> jax.Array:
    """Divides vectors by their Euclidean length.

    Args:
      x: `[..., D]`, any float type.
      eps: The least length to divide by, so the zero vector stays zero.

    Returns:
      `[..., D]` float32, of length 1 (or 0 for the zero vector).
    """
    x = x.astype(jnp.float32)
    # The maximum is taken on the square: the gradient of a square root at 0 is infinite.
    square = jnp.sum(x * x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, eps * eps))


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
