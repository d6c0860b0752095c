"""Cluster pooling (ICP): a grid is halved by clustering its pixels.

Source: CLUENet (AAAI 2026, arXiv 2512.06345), Figure 4.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax import ops
from cluenet_jax.models.layers import conv, conv1x1, layer_norm

POOLINGS = ("icp", "fec", "shared")


class ClusterPooling(nn.Module):
    """Means of clustered pixels, added to a strided convolution.

    Every pixel joins the coarse cell whose average it is most similar to, among all cells.

    Attributes:
      features: Width of the output.
      kind: "icp", one map guides the assignment and is averaged, and an MLP follows the mean;
        "fec", the map that guides is separate from the one averaged, so it never trains;
        "shared", a single projection to the new width guides and is averaged.
      norm_after: Whether a LayerNorm follows the mean (and the MLP).
      epsilon: Of the norms.
      dtype: Type of the matrix products.
    """

    features: int
    kind: str = "icp"
    norm_after: bool = True
    epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`x` is `[B, H, W, C]`.

        Returns:
          `[B, ceil(H/2), ceil(W/2), features]` and the assignment `[B, H, W]` int32, the
          row-major index of the coarse cell that each pixel joined.
        """
        batch, height, width, channels = x.shape
        grid = (-(-height // 2), -(-width // 2))
        inner = channels if self.kind == "icp" else self.features
        averaged = conv1x1(inner, "value", self.dtype)(x)
        guide = averaged
        if self.kind == "fec":
            guide = conv1x1(channels, "guide", self.dtype)(x)

        def rows(a: jax.Array) -> jax.Array:
            return a.reshape(batch, -1, a.shape[-1])

        guide_centers = ops.adaptive_avg_pool(guide, grid)
        centers = guide_centers if guide is averaged else ops.adaptive_avg_pool(averaged, grid)
        index = ops.nearest_center(rows(guide_centers), rows(guide))
        y = ops.cluster_mean(rows(averaged), rows(centers), index)
        if self.kind == "icp":
            y = layer_norm("norm", self.dtype, self.epsilon)(y)
            y = ops.gelu(conv1x1(channels, "expand", self.dtype)(y))
            y = conv1x1(self.features, "project", self.dtype)(y)
        if self.norm_after:
            y = layer_norm("norm_after", self.dtype, self.epsilon)(y)
        skip = conv(self.features, 3, 2, 1, "skip", self.dtype)(x)
        return skip + y.reshape(skip.shape), index.reshape(batch, height, width)
