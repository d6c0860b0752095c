"""What a checkpoint says of itself."""

import dataclasses
import importlib.metadata
from collections.abc import Mapping
from typing import Any

import ml_collections

from cluenet_jax.data import DatasetInfo

_PACKAGES = ("cluenet-jax", "jax", "flax", "optax", "orbax-checkpoint")


@dataclasses.dataclass(frozen=True)
class Metadata:
    """All that is needed to build the task and the model again, and what is known of them.

    Attributes:
      config: The whole configuration as plain values.
      info: The dataset that the model was trained on.
      best_metric: The metric by which checkpoints are compared.
      step: Training steps taken.
      metrics: Of the evaluation at this step; empty if there was none.
      checksums: Of the arrays of each item of the checkpoint.
      versions: Of the packages that wrote it.
    """

    config: Mapping[str, Any]
    info: DatasetInfo
    best_metric: str
    step: int = 0
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    checksums: Mapping[str, int] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def of_run(
        cls, config: ml_collections.ConfigDict, info: DatasetInfo, best_metric: str
    ) -> "Metadata":
        """The part that stays the same during a run."""
        versions = {name: _version(name) for name in _PACKAGES}
        return cls(config.to_dict(), info, best_metric, versions=versions)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {**fields, "info": self.info.to_json()}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Metadata":
        """The inverse of `to_json`, but that tuples of the configuration are lists.

        Raises:
          KeyError, TypeError: A field is missing or has another type.
        """
        return cls(**{**fields, "info": DatasetInfo.from_json(fields["info"])})


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
