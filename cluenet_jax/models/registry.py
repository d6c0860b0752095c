"""The only look-up of a model by its name."""

import dataclasses
import difflib

import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax.models import cluenet, clustr

_FAMILIES = [(cluenet.CLUENet, cluenet.VARIANTS), (clustr.ClusTR, clustr.VARIANTS)]
_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
# Fields that Linen adds to every module.
_LINEN_FIELDS = {"parent", "name"}


def list_models() -> list[str]:
    """Names that `create_model` takes."""
    return [name for _, variants in _FAMILIES for name in variants]


def model_options(name: str) -> dict[str, object]:
    """Every option of a model with the value it has by default."""
    family, values = _find(name)
    fields = [f for f in dataclasses.fields(family) if f.name not in _LINEN_FIELDS]
    return {f.name: values.get(f.name, f.default) for f in fields}


def create_model(name: str, num_classes: int | None = None, **overrides) -> nn.Module:
    """Builds a network.

    Args:
      name: One of `list_models()`.
      num_classes: Width of the logits; the published number if left out.
      **overrides: Options of the family (the fields of `cluenet.CLUENet` or
        `clustr.ClusTR`), instead of the variant's own.
        `dtype` may be given as "float32" or "bfloat16".

    Returns:
      A Flax Linen module; `model.apply(variables, images, train=False)` takes
      `[B, H, W, 3]` normalised images and returns `[B, num_classes]` float32.

    Raises:
      ValueError: An unknown name or option, or an option that does not fit.
    """
    family, values = _find(name)
    options = model_options(name)
    if num_classes is not None:
        overrides["num_classes"] = num_classes
    for key in overrides:
        if key not in options:
            raise ValueError(
                f"{name} has no option {key!r}.{_did_you_mean(key, options)} "
                f"Options: {', '.join(sorted(options))}."
            )
    if isinstance(overrides.get("dtype"), str):
        if overrides["dtype"] not in _DTYPES:
            raise ValueError(f"dtype={overrides['dtype']!r} is not one of {', '.join(_DTYPES)}.")
        overrides["dtype"] = _DTYPES[overrides["dtype"]]
    return family(**{**values, **overrides})


def _find(name: str) -> tuple[type[nn.Module], dict[str, object]]:
    for family, variants in _FAMILIES:
        if name in variants:
            return family, variants[name]
    known = list_models()
    raise ValueError(
        f"Unknown model {name!r}.{_did_you_mean(name, known)} Models: {', '.join(known)}."
    )


def _did_you_mean(word: str, known) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
