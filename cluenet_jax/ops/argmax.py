"""Which centre is best for each point: an argmax over the last axis but one.

XLA's CPU backend compares the entries of an argmax one at a time, but reduces with
vector instructions. So there the greatest entry is found first, then the lowest row
that holds it. The choice is made here and nowhere else.
"""

import jax
import jax.numpy as jnp


def argmax_rows(scores: jax.Array) -> jax.Array:
    """The row of the greatest entry of each column.

    No gradient passes.

    Args:
      scores: `[..., M, N]`.

    Returns:
      `[..., N]` int32 in 0 .. M-1, the lowest one among equals, any where there is NaN.
    """
    scores = jax.lax.stop_gradient(scores)
    return jax.lax.platform_dependent(
        scores, cpu=lambda s: two_reductions(s)[1], default=one_reduction
    )


def one_reduction(scores: jax.Array) -> jax.Array:
    """`argmax_rows` as XLA's own argmax."""
    return jax.lax.argmax(scores, scores.ndim - 2, jnp.int32)


def two_reductions(scores: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The greatest entry of each column, `[..., N]`, and its row."""
    count = scores.shape[-2]
    best = scores.max(axis=-2, keepdims=True)
    # Falling from M to 1, so that the greatest stands for the lowest row; exact up to 2**24.
    places = jnp.arange(count, 0, -1, dtype=jnp.float32)[:, None]
    # Without the barrier it is fused into the reduction, which then goes entry by entry.
    places = jax.lax.optimization_barrier(jnp.where(scores >= best, places, 0.0))
    # A column of NaN has no greatest entry; an index beyond M would be one of the next image.
    return best[..., 0, :], count - jnp.maximum(places.max(axis=-2), 1).astype(jnp.int32)
