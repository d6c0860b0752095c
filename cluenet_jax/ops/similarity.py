"""Cosine similarity between centres and points."""

import jax
import jax.numpy as jnp


def l2_normalize(x: jax.Array, eps: float = 1e-12) -> jax.Array:
    """Divides vectors by their Euclidean length.

    Args:
      x: `[..., D]`, any float type.
      eps: Lengths below this count as this, so the zero vector stays zero.

    Returns:
      `[..., D]` float32, of length 1 (or 0 for the zero vector).
    """
    x = x.astype(jnp.float32)
    # The maximum is taken on the square: the gradient of a square root at 0 is infinite.
    square = jnp.sum(x * x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, eps * eps))


def cosine_similarity(centres: jax.Array, points: jax.Array) -> jax.Array:
    """Cosine of the angle between every centre and every point.

    Args:
      centres: `[..., M, D]`.
      points: `[..., N, D]`, the same leading axes.

    Returns:
      `[..., M, N]` float32 in -1 .. 1.
    """
    return jnp.einsum(
        "...md,...nd->...mn",
        l2_normalize(centres),
        l2_normalize(points),
        precision=jax.lax.Precision.HIGHEST,
    )
