"""Products with the one-hot matrix of an assignment.

The matrix `[..., M, N]` is a comparison with an iota, which XLA fuses into the product: it is
never stored.
"""

import jax
import jax.numpy as jnp

SELECTION = "selection"


def members(index: jax.Array, num_clusters: int) -> jax.Array:
    """Whether cluster m has point n: `[..., N]` integers to `[..., M, N]` bool."""
    return jnp.arange(num_clusters, dtype=index.dtype)[:, None] == index[..., None, :]


def weighted_members(index: jax.Array, weights: jax.Array, num_clusters: int) -> jax.Array:
    """Each point's weight `[..., N]` at its cluster, zeros elsewhere: `[..., M, N]`."""
    return jnp.where(members(index, num_clusters), weights[..., None, :], 0)


def product(equation: str, a: jax.Array, b: jax.Array) -> jax.Array:
    """An einsum whose terms are exact if one factor is a one-hot matrix; float32.

    A TPU multiplies in bfloat16: such operands are exact as they are, and those of float32
    need the passes of the highest precision (fewer if the other is of bfloat16, XLA sees to it).
    """
    if a.dtype == b.dtype != jnp.float32:
        return jnp.einsum(equation, a, b, preferred_element_type=jnp.float32)
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    return jnp.einsum(equation, a, b, precision=jax.lax.Precision.HIGHEST)


def select(equation: str, chosen: jax.Array, rows: jax.Array) -> jax.Array:
    """`product` of a matrix of zeros and ones, or of a weight per point: a lookup or plain sums.

    Its scope tells it from a model's own products, for those who count (`macs`).
    """
    with jax.named_scope(SELECTION):
        return product(equation, chosen, rows)


def take_rows(rows: jax.Array, index: jax.Array) -> jax.Array:
    """The row of each point: `[..., M, C]` and `[..., N]` to `[..., N, C]`."""
    chosen = members(index, rows.shape[-2]).astype(rows.dtype)
    return select("...mn,...mc->...nc", chosen, rows).astype(rows.dtype)
