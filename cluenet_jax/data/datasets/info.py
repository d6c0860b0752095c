"""Description of a dataset, and a dataset ready to be read."""

import dataclasses
from typing import Any

from cluenet_jax.data.records import Source


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What models and tools know of a dataset without reading it.

    Attributes:
      name: Name in `list_datasets()`.
      class_names: Names by label.
      mean, std: Of RGB, in 0 .. 1, that images are normalized with.
    """

    name: str
    class_names: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def to_json(self) -> dict[str, Any]:
        """All fields as plain numbers, strings and lists."""
        return {
            "name": self.name,
            "class_names": [*self.class_names],
            "mean": [*self.mean],
            "std": [*self.std],
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "DatasetInfo":
        """The inverse of `to_json`."""
        return cls(
            fields["name"],
            tuple(fields["class_names"]),
            tuple(fields["mean"]),
            tuple(fields["std"]),
        )


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset ready to be read: its description and its two splits."""

    info: DatasetInfo
    train: Source
    eval: Source
