"""Context Cluster, CoC: image as set of points (ICLR 2023, arXiv 2303.01494).

The stages are those of `models/point_stages.py`, the mixer is that of `models/hard_clustering.py`,
and a strided convolution leads from stage to stage.
"""

import re
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from cluenet_jax.models import torch_names as names
from cluenet_jax.models.backbones.family import Family, Variant
from cluenet_jax.models.hard_clustering import HardClustering, hard_clustering_names
from cluenet_jax.models.point_stages import CLASSIFIER, PointStages, torch_names_of_stages

DENOMINATORS = ("similarity", "count")


class ContextCluster(PointStages):
    """The backbone; `FAMILY` holds the published sizes, `PointStages` the other options.

    Attributes:
      denominator: What the sum of a center's weighted members is divided by, besides its own 1:
        "similarity", the sum of their weights (published); "count", their number, as the
        published code did until May 2023, for weights of that time.
    """

    denominator: str = "similarity"

    def __post_init__(self):
        super().__post_init__()
        if self.denominator not in DENOMINATORS:
            raise ValueError(
                f"denominator={self.denominator!r} is not one of {', '.join(DENOMINATORS)}."
            )

    def mixer(self, stage: int) -> HardClustering:
        """As `PointStages.mixer`."""
        return HardClustering(
            self.num_heads[stage],
            self.head_dim,
            self.center_grids[stage],
            self.folds[stage],
            weighted=True,
            counted=self.denominator == "count",
            dtype=self.dtype,
            parent=None,
        )


def torch_names(backbone: ContextCluster) -> Iterator[names.Entry]:
    """The names of the published code's checkpoints."""
    return torch_names_of_stages(backbone, hard_clustering_names(), names.LINEAR)


def from_older(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Weights of the published code's older form, whose MLP is of 1x1 convolutions.

    Some of them, as of detection, also hold a buffer of coordinates, which is left out.
    """
    newest = {}
    for name, value in state_dict.items():
        if re.search(r"\.mlp\.fc[12]\.weight$", name) and np.ndim(value) == 4:
            newest[name] = np.asarray(value)[:, :, 0, 0]
        elif name.split(".")[-1] != "fea_pos":
            newest[name] = value
    return newest


def _variant(num_classes: int = 1000, **sizes) -> Variant:
    published = dict(
        center_grids=((2, 2),) * 4,
        folds=((8, 8), (4, 4), (2, 2), (1, 1)),
        mlp_ratios=(8, 8, 4, 4),
        patch=(4, 4, 0),
        drop_path=0.1,
    )
    return Variant(types.MappingProxyType({**published, **sizes}), num_classes)


_TINY = dict(dims=(32, 64, 196, 320), depths=(3, 4, 5, 2), num_heads=(4, 4, 8, 8), head_dim=24)
_WIDE = dict(dims=(64, 128, 320, 512), head_dim=32)

# The published sizes (the paper and its code; `coc_mini_cifar` from CLUENet's), and `coc_nano`,
# ours, for small images and quick tries. Drop path of the two plain tiny ones and of the bases is
# not published.
_VARIANTS = dict(
    coc_nano=_variant(
        num_classes=10,
        dims=(32, 48, 64, 96),
        depths=(1, 1, 2, 1),
        num_heads=(2, 2, 4, 4),
        head_dim=16,
        folds=((4, 4), (2, 2), (1, 1), (1, 1)),
        mlp_ratios=(4, 4, 4, 4),
        patch=(2, 2, 0),
    ),
    coc_mini_cifar=_variant(
        num_classes=100,
        dims=(32, 64, 160, 256),
        depths=(2, 2, 2, 2),
        num_heads=(1, 2, 5, 8),
        head_dim=32,
        patch=(3, 1, 1),
    ),
    coc_tiny=_variant(**_TINY),
    coc_tiny2=_variant(
        **_TINY,
        center_grids=((4, 4), (2, 2), (7, 7), (4, 4)),
        folds=((7, 7), (7, 7), (1, 1), (1, 1)),
    ),
    coc_tiny_plain=_variant(
        **_TINY,
        center_grids=((4, 4), (4, 4), (2, 2), (2, 2)),
        folds=((1, 1),) * 4,
    ),
    coc_small=_variant(**_WIDE, depths=(2, 2, 6, 2), num_heads=(4, 4, 8, 8)),
    coc_medium=_variant(**_WIDE, depths=(4, 4, 12, 4), num_heads=(6, 6, 12, 12), drop_path=0.3),
    coc_base_dim64=_variant(**_WIDE, depths=(6, 6, 24, 6), num_heads=(8, 8, 16, 16), drop_path=0.3),
    coc_base_dim96=_variant(
        dims=(96, 192, 384, 768),
        depths=(4, 4, 12, 4),
        num_heads=(8, 8, 16, 16),
        head_dim=32,
        drop_path=0.3,
    ),
)

FAMILY = Family(
    ContextCluster,
    types.MappingProxyType(_VARIANTS),
    torch_names,
    classifier=types.MappingProxyType(CLASSIFIER),
    pyramid=types.MappingProxyType({"level_norms": True}),
    from_older=from_older,
)
