"""Hard similarity feature dispatch (HSFD): each point receives from its center.

Source: CLUENet (arXiv 2512.06345).
"""

import jax
import jax.numpy as jnp

from cluenet_jax.ops.cosine import cosine_similarity


def argmax_rows(scores: jax.Array) -> jax.Array:
    """The row of the greatest entry of each column.

    Args:
      scores: `[..., M, N]`.

    Returns:
      `[..., N]` int32 in 0 .. M-1; the lowest among equals, any where there is NaN.
    """
    return jax.lax.argmax(scores, scores.ndim - 2, jnp.int32)


def fit_scores(
    queries: jax.Array, points: jax.Array, scale: jax.Array | float, shift: jax.Array | float
) -> jax.Array:
    """How well each point fits each center, `sigmoid(shift + scale * cosine)`.

    Args:
      queries: `[..., M, D]`, what the centers ask for.
      points: `[..., N, D]`.
      scale, shift: Scalars.

    Returns:
      `[..., M, N]` float32 in 0 .. 1.
    """
    return jax.nn.sigmoid(shift + scale * cosine_similarity(queries, points))


def best_fit(
    queries: jax.Array, points: jax.Array, scale: jax.Array | float, shift: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
    """`hard_assign` of `fit_scores`, with its arguments."""
    return hard_assign(fit_scores(queries, points, scale, shift))


def hard_assign(scores: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Assigns each point to the center of highest score.

    Args:
      scores: `[..., M, N]`.

    Returns:
      The index `[..., N]` int32 in 0 .. M-1 (the lowest among equals) and the
      score at it `[..., N]`. The gradient of the score reaches the chosen
      entry of `scores` alone; the index has none.
    """
    index = argmax_rows(scores)
    chosen = jnp.take_along_axis(scores, index[..., None, :], axis=-2)
    return index, jnp.squeeze(chosen, axis=-2)


def dispatch(index: jax.Array, weight: jax.Array, centers: jax.Array) -> jax.Array:
    """Gives each point the vector of its center, times its weight.

    Args:
      index: `[..., N]` integers in 0 .. M-1.
      weight: `[..., N]`, cast to the type of `centers`.
      centers: `[..., M, D]`.

    Returns:
      `[..., N, D]`: `weight[n] * centers[index[n]]`.
    """
    rows = jnp.take_along_axis(centers, index[..., None], axis=-2)
    return weight[..., None].astype(centers.dtype) * rows


def dispatch_gradients(
    index: jax.Array, weight: jax.Array, centers: jax.Array, grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Gradients of `weight` and `centers`, from that of the output `[..., N, D]`."""
    return jax.vjp(lambda *inputs: dispatch(index, *inputs), weight, centers)[1](grad)


def soft_dispatch(scores: jax.Array, centers: jax.Array) -> jax.Array:
    """The ablation without the hard choice: each point sums over all centers.

    Args:
      scores: `[..., M, N]`, cast to the type of `centers`.
      centers: `[..., M, D]`.

    Returns:
      `[..., N, D]`: `sum_m scores[m, n] * centers[m]`.
    """
    return jnp.einsum("...mn,...md->...nd", scores.astype(centers.dtype), centers)
