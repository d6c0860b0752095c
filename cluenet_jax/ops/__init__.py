"""Pure clustering functions on arrays, shared by the model families.

Nothing here knows Flax, configs, files or random state. Letters, the same
everywhere: B batch, H and W rows and columns of a grid, N = H*W points in
row-major order, M centres, G heads, D channels of one head, C channels.
"""

from cluenet_jax.ops.aggregate import aggregate, aggregation_weights
from cluenet_jax.ops.assign import dispatch, hard_assign, soft_dispatch
from cluenet_jax.ops.density_peaks import density_peak_clustering, merge_tokens
from cluenet_jax.ops.depthwise import depthwise_conv3x3
from cluenet_jax.ops.gelu import gelu
from cluenet_jax.ops.pooling import adaptive_avg_pool, cluster_mean, nearest_centre
from cluenet_jax.ops.segment import segment_sum
from cluenet_jax.ops.similarity import cosine_similarity, l2_normalize

__all__ = [
    "adaptive_avg_pool",
    "aggregate",
    "aggregation_weights",
    "cluster_mean",
    "cosine_similarity",
    "density_peak_clustering",
    "depthwise_conv3x3",
    "dispatch",
    "gelu",
    "hard_assign",
    "l2_normalize",
    "merge_tokens",
    "nearest_centre",
    "segment_sum",
    "soft_dispatch",
]
