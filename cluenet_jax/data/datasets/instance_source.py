"""Images of a folder with their instances, and what is left out of them for training."""

import dataclasses
import logging
import os
import pathlib
from collections.abc import Iterable

from cluenet_jax.data.image_files import check_inside, read_image_file
from cluenet_jax.data.instances import Instances
from cluenet_jax.data.records import Record
from cluenet_jax.data.rle import Size
from cluenet_jax.errors import DatasetError

# Images with a shorter side are not learned from, as in mmdetection.
MIN_SIDE = 32
_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class LabeledImage:
    """An image file with its instances.

    Attributes:
      path: Of the file.
      image_id: Its number in the dataset.
      size: Height and width, as its annotations say.
      instances: All of it.
    """

    path: str
    image_id: int
    size: Size
    instances: Instances


@dataclasses.dataclass(frozen=True)
class InstanceSource:
    """Random access to the images of one split."""

    images: tuple[LabeledImage, ...]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def sizes(self) -> list[Size]:
        """Height and width of each image, reading none."""
        return [image.size for image in self.images]

    def __getitem__(self, index: int) -> Record:
        """`image`, `name`, `image_id`, `size` and `instances`."""
        image = self.images[index]
        return {
            "image": read_image_file(image.path),
            "name": image.path,
            "image_id": image.image_id,
            "size": image.size,
            "instances": image.instances,
        }


def training_source(images: Iterable[LabeledImage], origin: str) -> InstanceSource:
    """What can be learned of a split: without crowds, and without images of nothing else.

    Left out are instances that are not `Instances.learnable`, then images without any and those
    with a side below `MIN_SIDE`. A line of the log counts them.

    Args:
      images: Of the split.
      origin: Name of the file or folder, for messages.

    Raises:
      DatasetError: Nothing is left.
    """
    images = [*images]
    kept = []
    num_instances = num_learnable = 0
    for image in images:
        learnable = image.instances.learnable(image.size)
        num_instances += len(learnable)
        num_learnable += int(learnable.sum())
        if learnable.any() and min(image.size) >= MIN_SIDE:
            kept.append(dataclasses.replace(image, instances=image.instances.select(learnable)))
    counts = (
        f"{num_instances - num_learnable} of {num_instances} instances (crowds, without area, "
        f"less than a pixel wide or high, or outside of their image) and "
        f"{len(images) - len(kept)} of {len(images)} images (without another instance, or with a "
        f"side below {MIN_SIDE} pixels)"
    )
    if not kept:
        raise DatasetError(f"{origin}: there is nothing to learn; unusable are {counts}.")
    if num_learnable < num_instances or len(kept) < len(images):
        _LOG.info("%s: left out of training: %s", origin, counts)
    return InstanceSource(tuple(kept))


def find_image(folder: pathlib.Path, name: str, listed: str) -> str:
    """The path of an image that annotations name.

    Args:
      folder: Where it must be, or in a folder of it.
      name: Relative to the folder.
      listed: Where the name was read, for messages.

    Raises:
      DatasetError: It is missing, or elsewhere.
    """
    parts = pathlib.PurePath(name)
    if parts.is_absolute() or ".." in parts.parts:
        raise DatasetError(f"{listed}: {name!r} is not inside of {folder}; names are relative.")
    path = os.path.join(folder, name)
    if os.path.islink(path):
        check_inside(pathlib.Path(path), folder.resolve())
    if not os.path.isfile(path):
        raise DatasetError(f"{listed}: {path} is missing; images belong into {folder}.")
    return path
