"""FEC: neural clustering based visual representation learning (CVPR 2024, arXiv 2403.17409).

The stages are those of `models/point_stages.py`, the mixer is that of `models/hard_clustering.py`
without weights, on the whole map, and a pooling by clustering leads from stage to stage:

    G, V = W_f x, W_v x
    G'_m, V'_m = averages of G and V       on a map of half the sides
    k(n) = argmax_m cos(G'_m, G_n)         among all m
    y_m = conv(x)_m + norm((V'_m + sum of V_n with k(n) = m) / (1 + members))

Only k depends on W_f, so it has no gradient and stays as it was drawn.
"""

import types
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax import ops
from cluenet_jax.models import torch_names as names
from cluenet_jax.models.backbones.family import Family, Variant
from cluenet_jax.models.cluster_pooling import pool_clusters
from cluenet_jax.models.hard_clustering import HardClustering, hard_clustering_names
from cluenet_jax.models.layers import FrozenConv1x1, group_norm, uniform_conv, uniform_conv1x1
from cluenet_jax.models.point_stages import (
    CLASSIFIER,
    EPSILON,
    REDUCER,
    PointStages,
    torch_names_of_stages,
)


class FECPooling(nn.Module):
    """Normalized means of clustered pixels, added to a strided convolution.

    Attributes:
      features: Width of the output.
      folds: Of the stage that follows: pixels join cells of their own fold.
      dtype: Type of the matrix products.
    """

    features: int
    folds: tuple[int, int]
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`x` is `[B, H, W, C]`.

        Returns:
          `[B, ceil(H/2), ceil(W/2), features]` and the assignment `[B, H, W]` int32, the
          row-major index of the coarse cell that each pixel joined.
        """
        channels = x.shape[-1]
        # Both the folds and the convolution halve the sides, so folds have even ones.
        counts = ops.fold_counts(x.shape[1:3], self.folds, multiple=2)
        guide = FrozenConv1x1(self.features, self.dtype, name="guide")(x)
        value = uniform_conv1x1(self.features, channels, "value", self.dtype)(x)
        y, index = pool_clusters(guide, value, counts)
        y = group_norm("norm", self.dtype, EPSILON)(y)
        skip = uniform_conv(self.features, channels, REDUCER, "skip", self.dtype)(x)
        return skip + y.reshape(skip.shape), index


class FEC(PointStages):
    """The backbone; `FAMILY` holds the published sizes, `PointStages` the options."""

    def mixer(self, stage: int) -> HardClustering:
        """As `PointStages.mixer`."""
        return HardClustering(
            self.num_heads[stage],
            self.head_dim,
            self.center_grids[stage],
            self.folds[stage],
            weighted=False,
            counted=True,
            dtype=self.dtype,
            parent=None,
        )

    def reduce(self, x: jax.Array, stage: int) -> tuple[jax.Array, jax.Array]:
        """As `PointStages.reduce`, by clustering."""
        width, folds = self.dims[stage + 1], self.folds[stage + 1]
        return FECPooling(width, folds, self.dtype, name=f"pool{stage + 1}")(x)


def torch_names(backbone: FEC) -> Iterator[names.Entry]:
    """The names of the published code's checkpoints."""
    pool = (
        *names.layer("conv_f", "guide", names.CONV1X1, "frozen"),
        *names.layer("conv_v", "value", names.CONV1X1),
        *names.layer("conv_skip", "skip", names.CONV),
        *names.norm("norm2", "norm"),
    )
    return torch_names_of_stages(backbone, hard_clustering_names(), names.LINEAR, pool)


def _variant(num_classes: int = 1000, **sizes) -> Variant:
    published = dict(
        center_grids=((4, 4), (4, 4), (2, 2), (2, 2)),
        folds=((1, 1),) * 4,
        mlp_ratios=(8, 8, 4, 4),
        patch=(4, 4, 0),
        drop_path=0.1,
    )
    return Variant(types.MappingProxyType({**published, **sizes}), num_classes)


_WIDE = dict(dims=(64, 128, 320, 512), head_dim=32)

# The published sizes (the paper and its code; `fec_mini_cifar` from CLUENet's), and `fec_nano`,
# ours, for small images and quick tries.
_VARIANTS = dict(
    fec_nano=_variant(
        num_classes=10,
        dims=(32, 48, 64, 96),
        depths=(1, 1, 2, 1),
        num_heads=(2, 2, 4, 4),
        head_dim=16,
        mlp_ratios=(4, 4, 4, 4),
        patch=(2, 2, 0),
    ),
    fec_mini_cifar=_variant(
        num_classes=100,
        dims=(32, 64, 160, 256),
        depths=(2, 2, 2, 2),
        num_heads=(1, 2, 5, 8),
        head_dim=32,
        patch=(3, 1, 1),
    ),
    fec_small=_variant(
        dims=(32, 64, 196, 320), depths=(3, 4, 5, 2), num_heads=(4, 4, 8, 8), head_dim=24
    ),
    fec_base=_variant(**_WIDE, depths=(2, 2, 6, 2), num_heads=(4, 4, 8, 8)),
    fec_large=_variant(**_WIDE, depths=(4, 4, 12, 4), num_heads=(6, 6, 12, 12), drop_path=0.3),
)

FAMILY = Family(
    FEC,
    types.MappingProxyType(_VARIANTS),
    torch_names,
    classifier=types.MappingProxyType(CLASSIFIER),
    pyramid=types.MappingProxyType({"level_norms": True}),
)
