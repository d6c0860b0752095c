"""Hard similarity feature dispatch (HSFD): points receive from their centre."""

import jax
import jax.numpy as jnp

from cluenet_jax.ops.argmax import argmax_rows


def hard_assign(scores: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Assigns each point to the centre of highest score.

    Args:
      scores: `[..., M, N]`.

    Returns:
      The index `[..., N]` int32 in 0 .. M-1 (the lowest one among equals) and
      the score at it `[..., N]`. The gradient of the score reaches the chosen
      entry of `scores` alone; the index has none.
    """
    index = argmax_rows(scores)
    chosen = jnp.take_along_axis(scores, index[..., None, :], axis=-2)
    return index, jnp.squeeze(chosen, axis=-2)


def dispatch(index: jax.Array, weight: jax.Array, centres: jax.Array) -> jax.Array:
    """Gives each point the vector of its centre, times its weight.

    Args:
      index: `[..., N]` integers in 0 .. M-1.
      weight: `[..., N]`, cast to the type of `centres`.
      centres: `[..., M, D]`.

    Returns:
      `[..., N, D]`: `weight[n] * centres[index[n]]`.
    """
    rows = jnp.take_along_axis(centres, index[..., None], axis=-2)
    return weight[..., None].astype(centres.dtype) * rows


def soft_dispatch(scores: jax.Array, centres: jax.Array) -> jax.Array:
    """The ablation without the hard choice: each point sums over all centres.

    Args:
      scores: `[..., M, N]`, cast to the type of `centres`.
      centres: `[..., M, D]`.

    Returns:
      `[..., N, D]`: `sum_m scores[m, n] * centres[m]`.
    """
    return jnp.einsum("...mn,...md->...nd", scores.astype(centres.dtype), centres)
