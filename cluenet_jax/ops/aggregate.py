"""Global soft feature aggregation (GSFA): centres gather values from all points."""

import jax
import jax.numpy as jnp


def aggregation_weights(similarity: jax.Array, temperature: jax.Array | float) -> jax.Array:
    """How much each centre takes from each point: a softmax over the points.

    Args:
      similarity: `[..., M, N]`, cosines in -1 .. 1.
      temperature: Positive; small values make the choice sharp. A scalar.

    Returns:
      `[..., M, N]` float32; every row sums to 1.

    Source: CLUENet, GSFA (`A` in the module documentation of `cluenet_jax.models.cluenet`).
    """
    return jax.nn.softmax(similarity.astype(jnp.float32) / temperature, axis=-1)


def aggregate(weights: jax.Array, values: jax.Array) -> jax.Array:
    """Weighted sums of point values, one per centre: `C = A V`.

    Args:
      weights: `[..., M, N]`, cast to the type of `values`.
      values: `[..., N, D]`.

    Returns:
      `[..., M, D]` of the type of `values`.
    """
    return jnp.einsum("...mn,...nd->...md", weights.astype(values.dtype), values)
