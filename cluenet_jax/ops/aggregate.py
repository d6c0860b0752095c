"""Global soft feature aggregation (GSFA): centers gather values from all points.

Source: CLUENet (arXiv 2512.06345).
"""

import jax
import jax.numpy as jnp

from cluenet_jax.ops.cosine import cosine_similarity


def aggregation_weights(similarity: jax.Array, temperature: jax.Array | float) -> jax.Array:
    """Softmax over the points: the weight of each point in each center.

    Args:
      similarity: `[..., M, N]`, cosines in -1 .. 1.
      temperature: A positive scalar; small values make the weights sharp.

    Returns:
      `[..., M, N]` float32; every row sums to 1.
    """
    return jax.nn.softmax(similarity.astype(jnp.float32) / temperature, axis=-1)


def aggregate(
    centers: jax.Array, points: jax.Array, values: jax.Array, temperature: jax.Array | float
) -> jax.Array:
    """Sums of all points' values for each center, weighted by similarity: `C = A V`.

    Args:
      centers: `[..., M, D]`.
      points: `[..., N, D]`, what is compared with the centers.
      values: `[..., N, E]`, what is summed.
      temperature: A positive scalar.

    Returns:
      `[..., M, E]` of the type of `values`.
    """
    weights = aggregation_weights(cosine_similarity(centers, points), temperature)
    return jnp.einsum("...mn,...nd->...md", weights.astype(values.dtype), values)
