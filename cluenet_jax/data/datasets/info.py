"""Description of a dataset, and a dataset ready to be read."""

import dataclasses
from typing import Any, NamedTuple

from cluenet_jax.data.records import Source
from cluenet_jax.data.skeletons import Skeleton

# Red, green and blue, 0 .. 255.
Rgb8 = tuple[int, int, int]


def default_colors(count: int) -> tuple[Rgb8, ...]:
    """Colors of classes that have none, the first one black.

    Source: the color map of PASCAL VOC, which reverses the bits of a class's number and deals
    them out to red, green and blue.
    """

    def channel(number: int, first: int) -> int:
        return sum((number >> 3 * i + first & 1) << 7 - i for i in range(8))

    return tuple((channel(n, 0), channel(n, 1), channel(n, 2)) for n in range(count))


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What models and tools know of a dataset without reading it.

    Attributes:
      name: Name in `list_datasets()`.
      class_names: Names by label.
      mean, std: Of RGB, in 0 .. 1, that images are normalized with.
      colors: The dataset's own colors of its classes, for masks; empty if it has none.
      skeleton: Of poses, whose keypoints are the classes; else None.
    """

    name: str
    class_names: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    colors: tuple[Rgb8, ...] = ()
    skeleton: Skeleton | None = None

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def palette(self) -> tuple[Rgb8, ...]:
        """A color for each class, its own or else of `default_colors`."""
        return self.colors or default_colors(self.num_classes)

    def to_json(self) -> dict[str, Any]:
        """All fields as plain numbers, strings and lists."""
        return {
            "name": self.name,
            "class_names": [*self.class_names],
            "mean": [*self.mean],
            "std": [*self.std],
            "colors": [[*color] for color in self.colors],
            "skeleton": self.skeleton and self.skeleton.to_json(),
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "DatasetInfo":
        """The inverse of `to_json`."""
        return cls(
            fields["name"],
            tuple(fields["class_names"]),
            tuple(fields["mean"]),
            tuple(fields["std"]),
            # Older checkpoints have none.
            tuple(map(tuple, fields.get("colors", ()))),
            Skeleton.from_json(skeleton) if (skeleton := fields.get("skeleton")) else None,
        )


class Opened(NamedTuple):
    """What the function that opens a dataset gives."""

    class_names: tuple[str, ...]
    train: Source
    eval: Source
    colors: tuple[Rgb8, ...] = ()
    skeleton: Skeleton | None = None


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset ready to be read: its description and its two splits."""

    info: DatasetInfo
    train: Source
    eval: Source
