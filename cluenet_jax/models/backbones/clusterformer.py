"""ClusterFormer: clustering as a universal visual learner (NeurIPS 2023, arXiv 2309.13196).

The stages are those of `models/point_stages.py`, and a strided convolution leads from one to the
next. The mixer, per window and head:

    Q, K, F = W_q x, W_k x, W_f x
    c_m = average of Q on a grid, then several times softmax_n(c_m K_n / sqrt(d)) F
    s_mn = sigmoid(b + a cos(c_m, Q_n)), hard assignment as in `models/hard_clustering.py`
    C_m = (F'_m + sum w_n F_n) / (1 + members), F' the averages of F
    out_n = W_o w_n C_k(n)

The published code reshapes where it should transpose, so that its windows, heads and points are
runs of numbers in memory and not what they are called. Its weights need that order of memory,
which is what `memory_order="published"` does; "transposed" does what the equations say.
"""

import types
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax import ops
from cluenet_jax.models import torch_names as names
from cluenet_jax.models.backbones.family import Family, Variant
from cluenet_jax.models.hard_clustering import (
    HardAssignment,
    from_folds,
    hard_assignment_names,
    in_folds,
    maps_from_folds,
)
from cluenet_jax.models.layers import FrozenConv1x1, uniform_conv1x1
from cluenet_jax.models.point_stages import CLASSIFIER, PointStages, torch_names_of_stages

MEMORY_ORDERS = ("published", "transposed")


class RecurrentClustering(nn.Module):
    """Attention that moves centers several times, then hard assignment to them.

    Attributes:
      num_heads, head_dim: Number and width of the heads.
      center_grid: Rows and columns of the centers of a window.
      folds: Rows and columns of windows, see `ops.fold_counts`.
      num_iterations: How often the centers attend to the points.
      memory_order: A name of `MEMORY_ORDERS`.
      unused_map: Whether there is a map that nothing uses, as in published weights.
      dtype: Type of the matrix products.
    """

    num_heads: int
    head_dim: int
    center_grid: tuple[int, int]
    folds: tuple[int, int]
    num_iterations: int
    memory_order: str
    unused_map: bool
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, grid: tuple[int, int]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """`x` is `[B, N, C]`, of the rows and columns of a grid.

        Returns:
          `[B, N, C]`; the cluster of each pixel, int32 `[B, G, N]`; and the similarity to it,
          float32 `[B, G, N]` in 0 .. 1. In the published order of memory the channels of a pixel
          belong to different clusters: these are of the first channel of each head.
        """
        channels, inner = x.shape[-1], self.num_heads * self.head_dim
        folds = ops.fold_counts(grid, self.folds)
        query, key, value = (
            uniform_conv1x1(inner, channels, name, self.dtype)(x)
            for name in ("query", "key", "value")
        )
        if self.unused_map:
            FrozenConv1x1(self.head_dim, name="unused")(jnp.zeros((0, self.head_dim)))
        assignment = HardAssignment(weighted=True, counted=True, name="assignment")
        if self.memory_order == "published":
            out, *maps = assignment(*self._as_published(query, key, value, grid, folds))
            out = out.reshape(len(x), inner, -1).swapaxes(1, 2)
            maps = self._maps_as_published(*maps)
        else:
            out, *maps = assignment(*self._as_transposed(query, key, value, grid, folds))
            out = from_folds(out, grid, folds)
            maps = maps_from_folds(*maps, self.center_grid, grid, folds)
        return uniform_conv1x1(channels, inner, "out", self.dtype)(out), *maps

    def _as_published(
        self,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        grid: tuple[int, int],
        folds: tuple[int, int],
    ) -> tuple[jax.Array, ...]:
        """The arguments of the assignment, with P = G F windows of an image.

        Centers `[B, P, M, D]`, points `[B, P, n, D]`, and the same of the values.
        """
        batch = len(query)
        windows = self.num_heads * folds[0] * folds[1]
        sides = (grid[0] // folds[0], grid[1] // folds[1])

        def read(x: jax.Array) -> jax.Array:
            """`[B, N, G*D]`, channels first in memory, as `[B, P, D, n]`."""
            return x.swapaxes(1, 2).reshape(batch, windows, self.head_dim, -1)

        def averages(x: jax.Array) -> jax.Array:
            """`[B, P, D, n]` to `[B, P, D, M]`."""
            image = x.reshape(batch, -1, *sides).transpose(0, 2, 3, 1)
            pooled = ops.adaptive_avg_pool(image, self.center_grid)
            return pooled.transpose(0, 3, 1, 2).reshape(*x.shape[:3], -1)

        def in_heads(x: jax.Array) -> jax.Array:
            """`[B, P, D, n]` as `[B, F, n, G, D]`, transposed to `[B * F, G, n, D]`."""
            again = x.reshape(-1, x.shape[-1], self.num_heads, self.head_dim)
            return again.swapaxes(1, 2)

        points, values = read(query), read(value)
        start = averages(points)
        centers = self._attend(in_heads(start), in_heads(read(key)), in_heads(values))
        centers = centers.swapaxes(1, 2).reshape(start.shape).swapaxes(2, 3)
        rows = (batch, windows, -1, self.head_dim)
        return centers, points.swapaxes(2, 3), averages(values).reshape(rows), values.reshape(rows)

    def _maps_as_published(
        self, index: jax.Array, weight: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """`[B, P, n]` to `[B, G, N]`: D pixels of a channel in a row are of one point."""
        first = jnp.arange(index.shape[1], dtype=jnp.int32)
        clusters = index + first[:, None] * (self.center_grid[0] * self.center_grid[1])

        def first_channels(x: jax.Array) -> jax.Array:
            x = x.reshape(len(x), self.num_heads, -1)
            points = -(-x.shape[-1] // self.head_dim)
            return jnp.repeat(x[:, :, :points], self.head_dim, axis=2)[:, :, : x.shape[-1]]

        return first_channels(clusters), first_channels(weight)

    def _as_transposed(
        self,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        grid: tuple[int, int],
        folds: tuple[int, int],
    ) -> tuple[jax.Array, ...]:
        """The arguments of the assignment, of each window and head.

        Centers `[B, F, G, M, D]`, points `[B, F, G, n, D]`, and the same of the values.
        """
        (start, points), (_, keys), (value_centers, values) = (
            in_folds(x, grid, folds, self.center_grid, self.num_heads) for x in (query, key, value)
        )
        flat = (x.reshape(-1, *x.shape[2:]) for x in (start, keys, values))
        return self._attend(*flat).reshape(start.shape), points, value_centers, values

    def _attend(self, centers: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        """Moves centers `[B, G, M, D]` several times towards values `[B, G, n, D]`."""
        with jax.named_scope("aggregation"):
            for _ in range(self.num_iterations):
                centers = ops.attend(centers, key, value)
        return centers


class ClusterFormer(PointStages):
    """The backbone; `FAMILY` holds the published sizes, `PointStages` the other options.

    Its `folds` are the windows.

    Attributes:
      num_iterations: How often the centers of a block attend to the points.
      memory_order: "published", that of the published code and weights; "transposed", windows,
        heads and points as the paper has them.
      unused_map: Whether blocks have the map that nothing uses, as most published weights do.
    """

    num_iterations: int = 3
    memory_order: str = "published"
    unused_map: bool = True

    def __post_init__(self):
        super().__post_init__()
        if self.memory_order not in MEMORY_ORDERS:
            raise ValueError(
                f"memory_order={self.memory_order!r} is not one of {', '.join(MEMORY_ORDERS)}."
            )
        if self.num_iterations < 1:
            raise ValueError(f"num_iterations={self.num_iterations} must be at least 1.")

    def mixer(self, stage: int) -> RecurrentClustering:
        """As `PointStages.mixer`."""
        return RecurrentClustering(
            self.num_heads[stage],
            self.head_dim,
            self.center_grids[stage],
            self.folds[stage],
            self.num_iterations,
            self.memory_order,
            self.unused_map,
            self.dtype,
            parent=None,
        )


def torch_names(backbone: ClusterFormer) -> Iterator[names.Entry]:
    """The names of the published code's checkpoints."""
    mixer = [*hard_assignment_names()]
    for torch, flax in (("conv1", "query"), ("conv_v", "key"), ("conv_f", "value")):
        mixer += names.layer(torch, flax, names.CONV1X1)
    mixer += names.layer("conv2", "out", names.CONV1X1)
    if backbone.unused_map:
        mixer += names.layer("conv_c", "unused", names.CONV1X1, "frozen")
    return torch_names_of_stages(backbone, tuple(mixer), names.CONV1X1)


def _variant(num_classes: int = 100, classifier: dict | None = None, **sizes) -> Variant:
    published = dict(
        center_grids=((5, 5),) * 4,
        folds=((8, 8), (4, 4), (2, 2), (1, 1)),
        mlp_ratios=(8, 8, 4, 4),
        patch=(4, 4, 1),
        drop_path=0.1,
    )
    return Variant(types.MappingProxyType({**published, **sizes}), num_classes, classifier)


_TINY = dict(dims=(96, 192, 384, 768), depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24), head_dim=32)
_OFFICIAL = dict(
    num_classes=1000,
    classifier=types.MappingProxyType({"all_levels": True}),
    center_grids=((10, 10),) * 4,
    folds=((32, 32), (16, 16), (8, 8), (4, 4)),
    patch=(4, 4, 0),
    drop_path=0.0,
    level_norms=True,
)

# The published sizes (`official`: of the paper's code; the others of CLUENet's), and
# `clusterformer_nano`, ours, for small images and quick tries.
_VARIANTS = dict(
    clusterformer_nano=_variant(
        num_classes=10,
        dims=(32, 48, 64, 96),
        depths=(1, 1, 2, 1),
        num_heads=(2, 2, 4, 4),
        head_dim=16,
        center_grids=((3, 3),) * 4,
        folds=((4, 4), (2, 2), (1, 1), (1, 1)),
        mlp_ratios=(4, 4, 4, 4),
        patch=(2, 2, 0),
        unused_map=False,
    ),
    clusterformer_mini_cifar=_variant(
        dims=(32, 64, 160, 256),
        depths=(2, 2, 2, 2),
        num_heads=(1, 2, 5, 8),
        head_dim=32,
        patch=(3, 1, 1),
        unused_map=False,
    ),
    clusterformer_mini=_variant(
        dims=(32, 64, 196, 320), depths=(3, 4, 5, 2), num_heads=(4, 4, 8, 8), head_dim=24
    ),
    clusterformer_adjust=_variant(
        dims=(64, 128, 320, 512), depths=(2, 2, 6, 2), num_heads=(4, 4, 8, 8), head_dim=32
    ),
    clusterformer_tiny=_variant(**_TINY, drop_path=0.3),
    clusterformer_official_tiny=_variant(**_TINY, **_OFFICIAL),
    clusterformer_official_small=_variant(
        **{**_TINY, **_OFFICIAL, "depths": (2, 2, 18, 2), "num_iterations": 1}
    ),
)

FAMILY = Family(
    ClusterFormer,
    types.MappingProxyType(_VARIANTS),
    torch_names,
    classifier=types.MappingProxyType(CLASSIFIER),
    pyramid=types.MappingProxyType({"level_norms": True}),
)
