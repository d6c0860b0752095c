"""The record that describes a family of backbones."""

import dataclasses
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax.models.torch_names import Entry

# Fields that Linen adds to every module.
_LINEN_FIELDS = {"parent", "name"}


@dataclasses.dataclass(frozen=True)
class Variant:
    """A published size, or one of ours.

    Attributes:
      sizes: Fields of the family's module.
      num_classes: Of the published classifier.
      classifier: Options of the head `linear` of the published classifier; None for those of
        the family.
    """

    sizes: Mapping[str, Any]
    num_classes: int
    classifier: Mapping[str, Any] | None = None


def _as_it_is(state_dict: Mapping[str, Any]) -> Mapping[str, Any]:
    return state_dict


@dataclasses.dataclass(frozen=True)
class Family:
    """A family of backbones.

    Attributes:
      module: Its Flax module, from images to `Features`; its fields are the options.
      variants: By name.
      torch_names: From a backbone to the names of its arrays in published checkpoints.
      classifier: Options of the head `linear` that the family's classifiers have.
      pyramid: Options of a backbone below a head that reads all levels.
      from_older: From a state dict of an older form of the published code to the newest form,
        which `torch_names` describe.
    """

    module: type[nn.Module]
    variants: Mapping[str, Variant]
    torch_names: Callable[[Any], Iterator[Entry]]
    classifier: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    pyramid: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    from_older: Callable[[Mapping[str, Any]], Mapping[str, Any]] = _as_it_is

    def option_types(self) -> dict[str, Any]:
        """Every option and its type hint: int, float, bool, str or a tuple of numbers."""
        hints = {**typing.get_type_hints(self.module), "dtype": str}
        names = [f.name for f in dataclasses.fields(self.module) if f.name not in _LINEN_FIELDS]
        return {name: hints[name] for name in names}

    def options(self, name: str) -> dict[str, Any]:
        """Every option of a variant with its value."""
        fields = {f.name: f.default for f in dataclasses.fields(self.module)}
        values = {**fields, **self.variants[name].sizes}
        return {option: values[option] for option in self.option_types()}

    def create(self, name: str, overrides: Mapping[str, Any]) -> nn.Module:
        """The backbone of a variant, with some options changed."""
        return self.module(**{**self.variants[name].sizes, **overrides})


DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
