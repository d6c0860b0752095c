"""Heads: from the levels of a backbone to a task's output; one dict of all."""

import dataclasses
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flax import linen as nn

from cluenet_jax.models.heads import (
    heatmap,
    heatmap_mta,
    linear,
    mask_rcnn,
    retinanet,
    semantic_fpn,
    upernet,
)
from cluenet_jax.models.torch_names import Entry

# Fields of heads that follow from the backbone, the dataset or the model, or that Linen adds.
_GIVEN = (
    "in_channels",
    "num_classes",
    "num_keypoints",
    "stride",
    "norm_epsilon",
    "group_norm",
    "all_levels",
    "dtype",
    "parent",
    "name",
)


def _mm_prefix(head: nn.Module) -> str:
    """What mmsegmentation, mmdetection and mmpose put before a backbone's names."""
    return "backbone."


@dataclasses.dataclass(frozen=True)
class HeadKind:
    """A kind of head.

    Attributes:
      module: Its Flax module; the first fields are `in_channels` and the number of outputs.
      torch_names: From a head to the names of its arrays in published checkpoints.
      torch_prefix: From a head to what stands before a backbone's names in checkpoints.
      pyramid: Whether it reads all levels of a backbone, each with a norm of its own.
      strided: Whether it takes `stride`, image pixels per pixel of the first level.
      auxiliary: Whether it takes `auxiliary=True` for a second output, for a loss in training.
    """

    module: type[nn.Module]
    torch_names: Callable[[Any], Iterator[Entry]]
    torch_prefix: Callable[[Any], str]
    pyramid: bool
    strided: bool = False
    auxiliary: bool = False

    def option_types(self) -> dict[str, type]:
        """The options of a configuration, by name: fields that do not follow from the rest."""
        hints = typing.get_type_hints(self.module)
        names = [field.name for field in dataclasses.fields(self.module)]
        return {name: hints[name] for name in names if name not in _GIVEN}


HEADS: Mapping[str, HeadKind] = {
    "linear": HeadKind(linear.LinearHead, linear.torch_names, linear.torch_prefix, pyramid=False),
    "semantic_fpn": HeadKind(
        semantic_fpn.SemanticFPN, semantic_fpn.torch_names, torch_prefix=_mm_prefix, pyramid=True
    ),
    "upernet": HeadKind(
        upernet.UperNet,
        upernet.torch_names,
        torch_prefix=_mm_prefix,
        pyramid=True,
        auxiliary=True,
    ),
    "mask_rcnn": HeadKind(
        mask_rcnn.MaskRCNN,
        mask_rcnn.torch_names,
        torch_prefix=_mm_prefix,
        pyramid=True,
        strided=True,
    ),
    "retinanet": HeadKind(
        retinanet.RetinaNet,
        retinanet.torch_names,
        torch_prefix=_mm_prefix,
        pyramid=True,
        strided=True,
    ),
    "heatmap_deconv": HeadKind(
        heatmap.HeatmapDeconv,
        heatmap.deconv_torch_names,
        torch_prefix=_mm_prefix,
        pyramid=True,
    ),
    "heatmap_fpn": HeadKind(
        heatmap.HeatmapFPN, heatmap.fpn_torch_names, torch_prefix=_mm_prefix, pyramid=True
    ),
    "heatmap_mta": HeadKind(
        heatmap_mta.HeatmapMTA, heatmap_mta.torch_names, torch_prefix=_mm_prefix, pyramid=True
    ),
}


def kind_of(head: nn.Module) -> HeadKind:
    """The kind of a head.

    Raises:
      ValueError: It is none of `HEADS`.
    """
    for kind in HEADS.values():
        if type(head) is kind.module:
            return kind
    raise ValueError(f"{type(head).__name__} is not one of the heads {', '.join(HEADS)}.")
