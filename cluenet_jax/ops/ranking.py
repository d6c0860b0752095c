"""The best of an image's candidates, by sorting each image on its own.

XLA divides a sort among the devices of a batch, but not a `top_k`.
"""

import jax
import jax.numpy as jnp


def ranking(scores: jax.Array, count: int | None = None) -> jax.Array:
    """Indices by falling score, equal ones by rising index.

    Args:
      scores: `[..., N]` float32.
      count: How many of them; all if None or more than N.

    Returns:
      `[..., min(count, N)]` int32.
    """
    return jnp.argsort(-scores, axis=-1, stable=True)[..., :count]


def take(values: jax.Array, index: jax.Array) -> jax.Array:
    """What the indices of each image mean.

    Args:
      values: `[..., N, *rest]`.
      index: `[..., K]` int32 in 0 .. N-1, with the same leading axes.

    Returns:
      `[..., K, *rest]`.
    """
    axis = index.ndim - 1
    index = index.reshape(*index.shape, *[1] * (values.ndim - index.ndim))
    return jnp.take_along_axis(values, index, axis=axis, mode="clip")


def pad_to(values: jax.Array, count: int) -> jax.Array:
    """Fills the second axis up with zeros: `[B, N, *rest]` to `[B, max(count, N), *rest]`."""
    missing = max(count - values.shape[1], 0)
    return jnp.pad(values, [(0, 0), (0, missing), *[(0, 0)] * (values.ndim - 2)])
