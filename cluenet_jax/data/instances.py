"""Instances of an image: boxes, labels, masks; and the truth that an evaluation counts with."""

import dataclasses
import json
from typing import Self

import numpy as np

from cluenet_jax.data.decode import decode_image
from cluenet_jax.data.records import Record
from cluenet_jax.data.rle import Rle, Size
from cluenet_jax.errors import ImageError

# Lengths of a truth are this times a power of 4, so that many images share one.
_LEAST_LENGTH = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Instances:
    """The N instances of an image, in pixels of the file.

    Attributes:
      boxes: float64 `[N, 4]`: x1, y1, x2, y2, continuous: the width is x2 - x1. They may leave
        the image.
      labels: int32 `[N]`, 0 .. C - 1.
      areas: float64 `[N]`, in pixels: by which an evaluation tells small from large.
      crowd: bool `[N]`: what is many objects, or not to be counted. Nothing is learned of it, and
        detections of it are neither right nor wrong.
      masks: Of each its pixels in the whole image; None where only the box is known.
    """

    boxes: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    masks: tuple[Rle | None, ...]

    @classmethod
    def of_rows(cls, rows: list[tuple]) -> Self:
        """Of a row (box, label, area, crowd, mask) for each."""
        boxes, labels, areas, crowd, masks = zip(*rows, strict=True) if rows else [()] * 5
        return cls(
            np.array(boxes, np.float64).reshape(-1, 4),
            np.array(labels, np.int32),
            np.array(areas, np.float64),
            np.array(crowd, bool),
            tuple(masks),
        )

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, chosen: np.ndarray) -> "Instances":
        """Those of indices, or of a bool `[N]`."""
        indices = np.arange(len(self))[chosen]
        arrays = (self.boxes, self.labels, self.areas, self.crowd)
        return Instances(
            *(array[indices] for array in arrays), tuple(self.masks[index] for index in indices)
        )

    def learnable(self, size: Size) -> np.ndarray:
        """bool `[N]`: not a crowd, of some area, a pixel wide and high, not outside of the image.

        Source: what mmdetection's COCO dataset leaves out.
        """
        least, most = self.boxes[:, :2], self.boxes[:, 2:]
        inside = np.minimum(most, size[::-1]) - np.maximum(least, 0)
        wide = ((most - least >= 1) & (inside > 0)).all(axis=1)
        return wide & (self.areas > 0) & ~self.crowd

    def check_masks(self, name: str) -> None:
        """Raises an ImageError, with the image's name, if an instance has no mask."""
        count = sum(mask is None for mask in self.masks)
        if count:
            raise ImageError(
                f"{name}: {count} of {len(self)} instances have a box and no mask; learn boxes "
                "alone, or add their segmentation."
            )


def decode_instances(record: Record) -> tuple[np.ndarray, Instances]:
    """The image and the instances of a record.

    Args:
      record: With `image`, `name`, `size` and `instances`.

    Returns:
      uint8 `[H, W, 3]`, turned as its EXIF says, and its instances.

    Raises:
      ImageError: As `decode_sized`.
    """
    return decode_sized(record), record["instances"]


def decode_sized(record: Record) -> np.ndarray:
    """The image of a record with `image`, `name` and `size`: uint8 `[H, W, 3]`.

    Raises:
      ImageError: It cannot be decoded, or is not of the size that its annotations are for.
    """
    image = np.asarray(decode_image(record["image"], record["name"]))
    if image.shape[:2] != tuple(record["size"]):
        raise ImageError(
            f"{record['name']}: {image.shape[1]}x{image.shape[0]} pixels (turned as its EXIF "
            f"says), its annotations are for {record['size'][1]}x{record['size'][0]}; they must "
            "be of the image as it is seen."
        )
    return image


def encode_truth(record: Record, masks: bool) -> np.ndarray:
    """All that an evaluation needs to know of an image, whatever the number of its instances.

    It is the text of a JSON object with `image_id`, `size` (height, width), and for each instance
    in lists `boxes` (x, y, width, height), `labels`, `areas`, `crowd` (0 or 1) and, if wanted,
    `masks` (the counts of compressed codes); then zeros.

    Args:
      record: With `image_id`, `name`, `size` and `instances`.
      masks: Whether masks are evaluated.

    Returns:
      uint8 `[T]`, T being 4096 times a power of 4.

    Raises:
      ImageError: Masks are wanted, and an instance has none.
    """
    instances = record["instances"]
    sides = instances.boxes[:, 2:] - instances.boxes[:, :2]
    truth = {
        "image_id": int(record["image_id"]),
        "size": [*map(int, record["size"])],
        "boxes": np.concatenate([instances.boxes[:, :2], sides], axis=1).tolist(),
        "labels": instances.labels.tolist(),
        "areas": instances.areas.tolist(),
        "crowd": instances.crowd.astype(int).tolist(),
    }
    if masks:
        instances.check_masks(record["name"])
        truth["masks"] = [mask["counts"].decode() for mask in instances.masks]
    return padded_text(json.dumps(truth, separators=(",", ":")))


def padded_text(text: str) -> np.ndarray:
    """A text and zeros, uint8 `[T]`, T being 4096 times a power of 4, so that many share one."""
    encoded = text.encode()
    length = _LEAST_LENGTH
    while length < len(encoded):
        length *= 4
    return np.frombuffer(encoded.ljust(length, b"\0"), np.uint8)
