"""Clustering of the points of an image by similarity, the mixer of Context Cluster and FEC.

    F, V = W_f x, W_v x                        per head; each fold of the map on its own
    F'_m, V'_m = averages of F and V           on a grid of centers
    s_mn = sigmoid(b + a cos(F'_m, F_n))
    k(n) = argmax_m s_mn, w_n = s_k(n)n        hard assignment, the lowest index among equals
    C_m = (V'_m + sum w_n V_n) / (1 + sum w_n)
    out_n = W_o w_n C_k(n)

The variants of C_m differ in whether members are weighted and what they are divided by.
Sources: Context Cluster (arXiv 2303.01494), FEC (arXiv 2403.17409).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax import ops
from cluenet_jax.models import torch_names as names
from cluenet_jax.models.layers import uniform_conv1x1


class HardClustering(nn.Module):
    """Clusters pixels and gives each the features of its center.

    Attributes:
      num_heads, head_dim: Number and width of the heads.
      center_grid: Rows and columns of the centers of a fold.
      folds: Rows and columns of folds, see `ops.fold_counts`.
      weighted: Whether a center sums its members by their similarities, or as they are.
      counted: Whether that sum is divided by the number of members or by their similarities.
      dtype: Type of the matrix products.
    """

    num_heads: int
    head_dim: int
    center_grid: tuple[int, int]
    folds: tuple[int, int]
    weighted: bool
    counted: bool
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, grid: tuple[int, int]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """`x` is `[B, N, C]`, of the rows and columns of a grid.

        Returns:
          `[B, N, C]`; the cluster of each pixel, int32 `[B, G, N]` (the center, row-major in its
          fold, plus the centers of all folds before); and the similarity to it, float32
          `[B, G, N]` in 0 .. 1.
        """
        channels, inner = x.shape[-1], self.num_heads * self.head_dim
        counts = ops.fold_counts(grid, self.folds)
        points, values = (
            self._in_folds(uniform_conv1x1(inner, channels, name, self.dtype)(x), grid, counts)
            for name in ("similarity", "value")
        )
        centers, value_centers = (self._centers(m, grid, counts) for m in (points, values))
        points, values, centers, value_centers = map(
            self._split, (points, values, centers, value_centers)
        )
        scale = self.param("scale", nn.initializers.ones, ())
        shift = self.param("shift", nn.initializers.zeros, ())
        with jax.named_scope("assignment"):
            index, weight = ops.best_fit(centers, points, scale, shift)
        with jax.named_scope("dispatch"):
            out = ops.dispatch(index, weight, self._aggregate(values, value_centers, index, weight))
        out = ops.join_folds(out.swapaxes(2, 3).reshape(*out.shape[:2], -1, inner), counts, grid)
        out = uniform_conv1x1(channels, inner, "out", self.dtype)(out.reshape(*x.shape[:2], inner))
        first = jnp.arange(index.shape[1], dtype=jnp.int32) * centers.shape[-2]
        clusters = index + first[:, None, None]
        return out, *(self._per_head(m, grid, counts) for m in (clusters, weight))

    def _in_folds(
        self, x: jax.Array, grid: tuple[int, int], counts: tuple[int, int]
    ) -> jax.Array:
        """`[B, N, C]` to `[B, F, n, C]`."""
        return ops.cut_folds(x.reshape(x.shape[0], *grid, x.shape[-1]), counts)

    def _centers(self, x: jax.Array, grid: tuple[int, int], counts: tuple[int, int]) -> jax.Array:
        """`[B, F, n, C]` to `[B, F, M, C]`, the averages of each fold."""
        batch, folds, _, channels = x.shape
        fold = (grid[0] // counts[0], grid[1] // counts[1])
        pooled = ops.adaptive_avg_pool(x.reshape(-1, *fold, channels), self.center_grid)
        return pooled.reshape(batch, folds, -1, channels)

    def _split(self, x: jax.Array) -> jax.Array:
        """`[B, F, n, G*D]` to `[B, F, G, n, D]`."""
        return x.reshape(*x.shape[:3], self.num_heads, self.head_dim).swapaxes(2, 3)

    def _aggregate(
        self, values: jax.Array, centers: jax.Array, index: jax.Array, weight: jax.Array
    ) -> jax.Array:
        """The centers' features, `[B, F, G, M, D]`."""

        def merged(x: jax.Array, axes: int) -> jax.Array:
            return x.reshape(-1, *x.shape[-axes:])

        weights = merged(weight, 1) if self.weighted else None
        means = ops.cluster_mean(
            merged(values, 2), merged(centers, 2), merged(index, 1), weights, self.counted
        )
        return means.reshape(centers.shape)

    def _per_head(
        self, x: jax.Array, grid: tuple[int, int], counts: tuple[int, int]
    ) -> jax.Array:
        """`[B, F, G, n]` to `[B, G, N]`."""
        whole = ops.join_folds(x.swapaxes(2, 3), counts, grid)
        return whole.reshape(x.shape[0], -1, self.num_heads).swapaxes(1, 2)


def hard_clustering_names() -> tuple[names.Entry, ...]:
    """The names within a mixer of the published codes' checkpoints."""
    return (
        names.Entry("sim_alpha", "scale", names.SCALAR),
        names.Entry("sim_beta", "shift", names.SCALAR),
        *names.layer("f", "similarity", names.CONV1X1),
        *names.layer("v", "value", names.CONV1X1),
        *names.layer("proj", "out", names.CONV1X1),
    )
