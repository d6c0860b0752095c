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
        channels = x.shape[-1]
        inner = channels if self.kind == "icp" else self.features
        averaged = conv1x1(inner, "value", self.dtype)(x)
        guide = averaged
        if self.kind == "fec":
            guide = conv1x1(channels, "guide", self.dtype)(x)
        y, index = pool_clusters(guide, averaged)
        if self.kind == "icp":
            y = layer_norm("norm", self.dtype, self.epsilon)(y)
            y = ops.gelu(conv1x1(channels, "expand", self.dtype)(y))
            y = conv1x1(self.features, "project", self.dtype)(y)
        if self.norm_after:
            y = layer_norm("norm_after", self.dtype, self.epsilon)(y)
        skip = conv(self.features, 3, 2, 1, "skip", self.dtype)(x)
        return skip + y.reshape(skip.shape), index


def pool_clusters(
    guide: jax.Array, averaged: jax.Array, folds: tuple[int, int] = (1, 1)
) -> tuple[jax.Array, jax.Array]:
    """The means of the pixels that join each cell of a map of half the sides.

    Args:
      guide: `[B, H, W, D]`, what decides; it gets no gradient.
      averaged: `[B, H, W, C]`, what is averaged.
      folds: Rows and columns of folds whose pixels join cells of their own fold; where there are
        several, they have even sides.

    Returns:
      `[B, M, C]` of the M cells in row-major order, and int32 `[B, H, W]`, the cell that each
      pixel joined. The sides of the map of cells are rounded up.
    """
    batch, height, width, _ = averaged.shape
    rows, columns = height // folds[0], width // folds[1]
    cells = (-(-rows // 2), -(-columns // 2))
    grid = (folds[0] * cells[0], folds[1] * cells[1])

    def in_folds(x: jax.Array) -> jax.Array:
        return ops.cut_folds(x, folds).reshape(-1, rows * columns, x.shape[-1])

    def centers(x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        pooled = ops.adaptive_avg_pool(x.reshape(-1, rows, columns, channels), cells)
        return pooled.reshape(-1, cells[0] * cells[1], channels)

    points, values = in_folds(guide), in_folds(averaged)
    point_centers = centers(points)
    value_centers = point_centers if guide is averaged else centers(values)
    index = ops.nearest_center(point_centers, points)
    means = ops.cluster_mean(values, value_centers, index)
    means = ops.join_folds(means.reshape(batch, -1, *means.shape[1:]), folds, grid)
    # From the number of a cell in its fold to that in the whole map.
    numbers = jnp.arange(grid[0] * grid[1], dtype=jnp.int32).reshape(1, *grid, 1)
    first = ops.cut_folds(numbers, folds)[0, :, :1, 0]
    index = index.reshape(batch, -1, rows * columns)
    index = first + index + index // cells[1] * (grid[1] - cells[1])
    index = ops.join_folds(index[..., None], folds, (height, width))[..., 0]
    return means.reshape(batch, -1, means.shape[-1]), index
