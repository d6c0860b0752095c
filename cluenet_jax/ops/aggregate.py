"""Global soft feature aggregation (GSFA): centers gather values from all points.

Source: CLUENet (arXiv 2512.06345).
"""

import jax
import jax.numpy as jnp


def aggregation_weights(similarity: jax.Array, temperature: jax.Array | float) -> jax.Array:
    """Softmax over the points: the weight of each point in each center.

    Args:
      similarity: `[..., M, N]`, cosines in -1 .. 1.
      temperature: A positive scalar; small values make the weights sharp.

    Returns:
      `[..., M, N]` float32; every row sums to 1.
    """
    return jax.nn.softmax(similarity.astype(jnp.float32) / temperature, axis=-1)


def aggregate(weights: jax.Array, values: jax.Array) -> jax.Array:
    """Weighted sums of the points' values, one per center: `C = A V`.

    Args:
      weights: `[..., M, N]`, cast to the type of `values`.
      values: `[..., N, D]`.

    Returns:
      `[..., M, D]` of the type of `values`.
    """
    return jnp.einsum("...mn,...nd->...md", weights.astype(values.dtype), values)
