"""Argmax over the last axis but one, as two reductions.

XLA's CPU backend compares the entries of an argmax one at a time, but reduces with
vector instructions. So the greatest entry is found first, then the lowest row that holds it.
"""

import jax
import jax.numpy as jnp


def argmax_rows(scores: jax.Array) -> jax.Array:
    """As `ops.assign.argmax_rows`."""
    return max_and_row(scores)[1]


def hard_assign(scores: jax.Array) -> tuple[jax.Array, jax.Array]:
    """As `ops.assign.hard_assign`."""
    best, index = max_and_row(scores)
    return index, best


def max_and_row(scores: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The greatest entry of each column of `[..., M, N]`, and its row, both `[..., N]`."""
    count = scores.shape[-2]
    best = scores.max(axis=-2, keepdims=True)
    # Falling from M to 1, so that the greatest stands for the lowest row; exact up to 2**24.
    ranks = jnp.arange(count, 0, -1, dtype=jnp.float32)[:, None]
    # Without the barrier it is fused into the reduction, which then goes entry by entry.
    ranks = jax.lax.optimization_barrier(jnp.where(scores >= best, ranks, 0.0))
    # A column of NaN has no greatest entry; an index beyond M would be one of the next image.
    return best[..., 0, :], count - jnp.maximum(ranks.max(axis=-2), 1).astype(jnp.int32)
