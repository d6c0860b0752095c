"""Merging of the tokens of a cluster into one.

Source: ClusTR (arXiv 2208.13138).
"""

import jax
import jax.numpy as jnp

from cluenet_jax.ops.segment import SegmentSum, segment_sum


def merge_tokens(
    tokens: jax.Array,
    weights: jax.Array,
    index: jax.Array,
    num_clusters: int,
    segment_sum: SegmentSum = segment_sum,
) -> jax.Array:
    """Weighted mean of the tokens of each cluster.

    Args:
      tokens: `[B, N, C]`.
      weights: `[B, N, 1]`, positive.
      index: `[B, N]` integers in 0 .. num_clusters-1.
      num_clusters: The clusters of an image, M.
      segment_sum: The form of `ops.segment.segment_sum`.

    Returns:
      `[B, M, C]` of the type of `tokens`: `sum w x / (sum w + 1e-6)`, summed in
      float32; differentiable in tokens and weights.
    """
    weights = weights.astype(jnp.float32)
    weighted = weights * tokens.astype(jnp.float32)
    total = segment_sum(weighted, index, num_clusters)
    mass = segment_sum(weights, index, num_clusters)
    return (total / (mass + 1e-6)).astype(tokens.dtype)
