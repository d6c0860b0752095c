"""Models as Flax Linen modules, and the only look-up of one by its name."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from flax import linen as nn

from cluenet_jax.models.backbones import FAMILIES
from cluenet_jax.models.backbones.family import DTYPES, Family
from cluenet_jax.models.features import Backbone, Features, StageMaps
from cluenet_jax.models.heads import HEADS
from cluenet_jax.models.model import Model

__all__ = [
    "Backbone",
    "Features",
    "Model",
    "StageMaps",
    "create_backbone",
    "create_head",
    "create_model",
    "list_models",
    "model_options",
]


def list_models() -> list[str]:
    """Names that `create_model` and `create_backbone` take."""
    return [name for family in FAMILIES.values() for name in family.variants]


def model_options(name: str) -> dict[str, Any]:
    """Every option of a model with the value it has by default.

    Raises:
      ValueError: An unknown name.
    """
    return find_family(name).options(name)


def find_family(name: str) -> Family:
    """The family of a variant's name.

    Raises:
      ValueError: An unknown name; says which there are.
    """
    for family in FAMILIES.values():
        if name in family.variants:
            return family
    raise ValueError(f"Unknown model {name!r}.{_list_of('Models', name, list_models())}")


def create_backbone(name: str, **options: Any) -> nn.Module:
    """Builds a backbone whose four levels are ready for any head, each with its norm.

    Args:
      name: A name of `list_models()`.
      **options: Options of the family (the fields of its module in
        `cluenet_jax.models.backbones`) that differ from the variant's own. `dtype` may be
        "float32" or "bfloat16".

    Returns:
      A Flax Linen module; `backbone.apply(variables, images, train=False)` takes normalized
      images `[B, H, W, 3]` and returns `Features`.

    Raises:
      ValueError: An unknown name or option, or an option that does not fit.
    """
    family = find_family(name)
    return _backbone(family, name, {**family.pyramid, **options})


def create_head(name: str, in_channels: Iterable[int], num_classes: int, **options: Any):
    """Builds a head.

    Args:
      name: "linear", "semantic_fpn", "upernet", "mask_rcnn", "retinanet", "heatmap_deconv",
        "heatmap_fpn" or "heatmap_mta".
      in_channels: Width of each level it is given, a backbone's `channels`.
      num_classes: Number of outputs: classes without background, or keypoints.
      **options: The other fields of the head's module (`cluenet_jax.models.heads`). `dtype` may
        be "float32" or "bfloat16".

    Returns:
      A Flax Linen module; `head.apply(variables, levels, train=False)` takes a tuple of
      `[B, H_s, W_s, in_channels[s]]`, finest first, and returns float32 logits:
      `[B, num_classes]` of the head `linear`, `[B, H_1, W_1, num_classes]` of those of
      segmentation; heatmaps `[B, H, W, num_classes]` of those of pose; `mask_rcnn` and `retinanet`
      also take `image_sizes` and return a dict of detections.

    Raises:
      ValueError: An unknown name or option, or an option that does not fit.
    """
    if name not in HEADS:
        raise ValueError(f"Unknown head {name!r}.{_list_of('Heads', name, HEADS)}")
    in_channels = tuple(in_channels)
    if min(in_channels, default=0) < 1:
        raise ValueError(f"in_channels={in_channels} must be at least 1.")
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes} must be at least 1.")
    try:
        return HEADS[name].module(in_channels, num_classes, **_with_dtype(options))
    except TypeError as error:
        raise ValueError(f"head {name}: {error}") from error


def create_model(
    name: str,
    num_classes: int | None = None,
    head: str = "linear",
    head_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Model:
    """Builds a model: a backbone and a head.

    Args:
      name: The backbone, a name of `list_models()`.
      num_classes: Number of outputs; the published classifier's if None.
      head: A name that `create_head` takes.
      head_options: Options of the head, as for `create_head`.
      **options: Options of the backbone, as for `create_backbone`.

    Returns:
      A Flax Linen module; `model.apply(variables, images, train=False)` takes normalized
      images `[B, H, W, 3]` and returns what the head does.

    Raises:
      ValueError: An unknown name or option, or an option that does not fit.
    """
    family = find_family(name)
    variant = family.variants[name]
    num_classes = variant.num_classes if num_classes is None else num_classes
    if head not in HEADS:
        raise ValueError(f"Unknown head {head!r}.{_list_of('Heads', head, HEADS)}")
    pyramid = family.pyramid if HEADS[head].pyramid else {}
    backbone = _backbone(family, name, {**pyramid, **options})
    classifier = family.classifier if variant.classifier is None else variant.classifier
    classifier = classifier if head == "linear" else {}
    stride = {"stride": backbone.strides[0]} if HEADS[head].strided else {}
    own = {"dtype": backbone.dtype, **classifier, **stride, **(head_options or {})}
    return Model(backbone, create_head(head, backbone.channels, num_classes, **own))


def _backbone(family: Family, name: str, options: dict[str, Any]) -> nn.Module:
    known = family.options(name)
    for key in options:
        if key not in known:
            raise ValueError(f"{name} has no option {key!r}.{_list_of('Options', key, known)}")
    return family.create(name, _with_dtype(options))


def _with_dtype(options: dict[str, Any]) -> dict[str, Any]:
    """The options with a type in the place of its name."""
    dtype = options.get("dtype")
    if not isinstance(dtype, str):
        return options
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r} is not one of {', '.join(DTYPES)}.")
    return {**options, "dtype": DTYPES[dtype]}


def _list_of(kind: str, word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{hint} {kind}: {', '.join(sorted(known) if kind == 'Options' else known)}."
