"""The section `model` of a configuration: its check, and the model it describes."""

import typing
from typing import Any

import ml_collections
from flax import linen as nn

from cluenet_jax.errors import UserError
from cluenet_jax.models import create_model, find_family
from cluenet_jax.models.backbones import FAMILIES
from cluenet_jax.models.backbones.family import DTYPES
from cluenet_jax.models.heads import HEADS
from cluenet_jax.models.layers import REMAT
from cluenet_jax.settings import check_settings, number, of_hint, one_of, optional, text

# Options that all families have, or that follow from the head.
_COMMON = ("dtype", "drop_path", "remat")
_FROM_HEAD = ("level_norms",)

SETTINGS = {
    "backbone": text(),
    "head": one_of(HEADS),
    "dtype": one_of(DTYPES),
    "drop_path": optional(number(least=0, below=1)),
    "remat": one_of(REMAT),
}


def family_options(name: str) -> dict[str, type]:
    """The options under a family's own key: their plain types."""
    hints = FAMILIES[name].option_types()
    return {
        option: typing.get_origin(hint) or hint
        for option, hint in hints.items()
        if option not in (*_COMMON, *_FROM_HEAD)
    }


def head_options(name: str) -> dict[str, type]:
    """The options under a head's own key, which it has if there are any: their types."""
    return HEADS[name].option_types()


def check_model(model: ml_collections.ConfigDict) -> None:
    """Raises a UserError for a section `model` that describes no model."""
    check_settings(model, "model", SETTINGS)
    for name, family in FAMILIES.items():
        hints = family.option_types()
        takes = {option: optional(of_hint(hints[option])) for option in family_options(name)}
        check_settings(model[name], f"model.{name}", takes)
    for name in HEADS:
        if hints := head_options(name):
            takes = {option: optional(of_hint(hint)) for option, hint in hints.items()}
            check_settings(model[name], f"model.{name}", takes)
    model_from_config(model, num_classes=2)


def model_from_config(model: ml_collections.ConfigDict, num_classes: int) -> nn.Module:
    """The model of a section `model` with `num_classes` outputs.

    Raises:
      UserError: An unknown backbone, options of another family, or options that do not fit.
    """
    try:
        own = find_family(model.backbone)
    except ValueError as error:
        raise UserError(f"config.model.backbone: {error}") from error
    try:
        options = {name: model[name] for name in _COMMON if model[name] is not None}
        for name, family in FAMILIES.items():
            options |= _own_options(model, name, family is own, f"backbone is {model.backbone}")
        chosen = {}
        for name in filter(head_options, HEADS):
            chosen |= _own_options(model, name, name == model.head, f"head is {model.head}")
        return create_model(model.backbone, num_classes, model.head, chosen, **options)
    except UserError:
        raise
    except (ValueError, TypeError) as error:
        raise UserError(f"config.model: {error}") from error


def _own_options(
    model: ml_collections.ConfigDict, name: str, used: bool, instead: str
) -> dict[str, Any]:
    """The options that are given under a key of the section."""
    given = {k: v for k, v in model[name].to_dict().items() if v is not None}
    if given and not used:
        raise UserError(f"config.model.{name} has options ({', '.join(given)}), but the {instead}.")
    return given
