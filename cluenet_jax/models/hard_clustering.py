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


class HardAssignment(nn.Module):
    """Assigns points to centers, sums the members of each center and gives them that sum.

    Attributes:
      weighted: Whether a center sums its members by their similarities, or as they are.
      counted: Whether that sum is divided by the number of members or by their similarities.
    """

    weighted: bool
    counted: bool

    @nn.compact
    def __call__(
        self, centers: jax.Array, points: jax.Array, value_centers: jax.Array, values: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Runs the equations from s on.

        Args:
          centers, value_centers: F' and V', `[..., M, D]`.
          points, values: F and V, `[..., N, D]`.

        Returns:
          `[..., N, D]`, the index of each point's center, int32 `[..., N]`, and its similarity,
          float32 `[..., N]` in 0 .. 1.
        """
        scale = self.param("scale", nn.initializers.ones, ())
        shift = self.param("shift", nn.initializers.zeros, ())
        with jax.named_scope("assignment"):
            index, weight = ops.best_fit(centers, points, scale, shift)

        def merged(x: jax.Array, axes: int) -> jax.Array:
            return x.reshape(-1, *x.shape[-axes:])

        weights = merged(weight, 1) if self.weighted else None
        means = ops.cluster_mean(
            merged(values, 2), merged(value_centers, 2), merged(index, 1), weights, self.counted
        )
        with jax.named_scope("dispatch"):
            out = ops.dispatch(index, weight, means.reshape(value_centers.shape))
        return out, index, weight


class HardClustering(nn.Module):
    """Clusters pixels and gives each the features of its center.

    Attributes:
      num_heads, head_dim: Number and width of the heads.
      center_grid: Rows and columns of the centers of a fold.
      folds: Rows and columns of folds, see `ops.fold_counts`.
      weighted, counted: As in `HardAssignment`.
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
        folds = ops.fold_counts(grid, self.folds)
        points = uniform_conv1x1(inner, channels, "similarity", self.dtype)(x)
        values = uniform_conv1x1(inner, channels, "value", self.dtype)(x)
        centers, points = in_folds(points, grid, folds, self.center_grid, self.num_heads)
        value_centers, values = in_folds(values, grid, folds, self.center_grid, self.num_heads)
        assignment = HardAssignment(self.weighted, self.counted, name="assignment")
        out, index, weight = assignment(centers, points, value_centers, values)
        out = uniform_conv1x1(channels, inner, "out", self.dtype)(from_folds(out, grid, folds))
        return out, *maps_from_folds(index, weight, self.center_grid, grid, folds)


def in_folds(
    x: jax.Array,
    grid: tuple[int, int],
    folds: tuple[int, int],
    center_grid: tuple[int, int],
    num_heads: int,
) -> tuple[jax.Array, jax.Array]:
    """A map `[B, N, G*D]` in F folds, their averages on a grid of M centers before it.

    Returns:
      `[B, F, G, M, D]` and `[B, F, G, n, D]`.
    """

    def split(x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:3], num_heads, -1).swapaxes(2, 3)

    batch, _, channels = x.shape
    cut = ops.cut_folds(x.reshape(batch, *grid, channels), folds)
    sides = (grid[0] // folds[0], grid[1] // folds[1])
    centers = ops.adaptive_avg_pool(cut.reshape(-1, *sides, channels), center_grid)
    return split(centers.reshape(*cut.shape[:2], -1, channels)), split(cut)


def from_folds(x: jax.Array, grid: tuple[int, int], folds: tuple[int, int]) -> jax.Array:
    """`[B, F, G, n, D]` to `[B, N, G*D]`, heads side by side."""
    batch, count, _, points, _ = x.shape
    x = x.swapaxes(2, 3).reshape(batch, count, points, -1)
    return ops.join_folds(x, folds, grid).reshape(batch, grid[0] * grid[1], -1)


def maps_from_folds(
    index: jax.Array,
    weight: jax.Array,
    center_grid: tuple[int, int],
    grid: tuple[int, int],
    folds: tuple[int, int],
) -> tuple[jax.Array, jax.Array]:
    """Indices within folds, and weights, `[B, F, G, n]` to clusters of the map, `[B, G, N]`."""
    first = jnp.arange(index.shape[1], dtype=jnp.int32) * (center_grid[0] * center_grid[1])
    clusters = index + first[:, None, None]
    whole = (from_folds(x[..., None], grid, folds) for x in (clusters, weight))
    clusters, weight = (x.swapaxes(1, 2) for x in whole)
    return clusters, weight


def hard_clustering_names() -> tuple[names.Entry, ...]:
    """The names within a mixer of the published codes' checkpoints."""
    return (
        *hard_assignment_names(),
        *names.layer("f", "similarity", names.CONV1X1),
        *names.layer("v", "value", names.CONV1X1),
        *names.layer("proj", "out", names.CONV1X1),
    )


def hard_assignment_names() -> tuple[names.Entry, ...]:
    """The names of the parameters of a mixer's assignment."""
    return (
        names.Entry("sim_alpha", "assignment/scale", names.SCALAR),
        names.Entry("sim_beta", "assignment/shift", names.SCALAR),
    )
