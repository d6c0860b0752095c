"""Poses of an image, the crops that models see of them, and the truth an evaluation counts with."""

import dataclasses
import json
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, Self

import numpy as np

from cluenet_jax.data.instances import padded_text
from cluenet_jax.data.records import Record, Source
from cluenet_jax.errors import DatasetError

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Poses:
    """The N posed objects of an image, in pixels of the file.

    Attributes:
      boxes: float64 `[N, 4]`: x1, y1, x2, y2. They may leave the image.
      points: float32 `[N, K, 3]`: x, y, and whether the keypoint is labeled: above 0.
      areas: float64 `[N]`: by which an evaluation tells near from far.
      crowd: bool `[N]`: what is many objects, or not to be counted.
    """

    boxes: np.ndarray
    points: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray

    @classmethod
    def of_rows(cls, rows: list[tuple], num_keypoints: int) -> Self:
        """Of a row (box, points, area, crowd) for each."""
        boxes, points, areas, crowd = zip(*rows, strict=True) if rows else [()] * 4
        return cls(
            np.array(boxes, np.float64).reshape(-1, 4),
            np.array(points, np.float32).reshape(-1, num_keypoints, 3),
            np.array(areas, np.float64),
            np.array(crowd, bool),
        )

    def __len__(self) -> int:
        return len(self.areas)

    def clipped_boxes(self, size: tuple[int, int]) -> np.ndarray:
        """float64 `[N, 4]`: the boxes within an image of a height and a width.

        Source: mmpose 0.x, whose boxes end at the last pixel's center.
        """
        height, width = size
        least = self.boxes[:, :2].clip(0)
        sides = (self.boxes[:, 2:] - self.boxes[:, :2]).clip(0)
        most = np.minimum(least + sides, (width - 1, height - 1))
        return np.concatenate([least, most], axis=1)

    def usable(self, size: tuple[int, int], required: np.ndarray) -> np.ndarray:
        """bool `[N]`: not a crowd, of some area in the image, with one of the required keypoints.

        Args:
          size: Height and width of the image.
          required: bool `[K]`.
        """
        boxes = self.clipped_boxes(size)
        wide = (boxes[:, 2:] > boxes[:, :2]).all(1)
        labeled = (self.points[:, required, 2] > 0).any(1)
        return wide & labeled & (self.areas > 0) & ~self.crowd


def encode_poses(poses: Poses) -> np.ndarray:
    """All that an evaluation needs to know of an image's poses.

    It is the text of a JSON list with, for each object, `keypoints` (x, y, v in turns), `bbox` (x,
    y, width, height), `area` and `iscrowd` (0 or 1); then zeros.

    Returns:
      uint8 `[T]`, T being 4096 times a power of 4.
    """
    sides = poses.boxes[:, 2:] - poses.boxes[:, :2]
    rows = [
        {
            # As few digits as say the float32 again.
            "keypoints": [float(str(value)) for value in points.ravel()],
            "bbox": [*box[:2].tolist(), *side.tolist()],
            "area": float(area),
            "iscrowd": int(crowd),
        }
        for points, box, side, area, crowd in zip(
            poses.points, poses.boxes, sides, poses.areas, poses.crowd, strict=True
        )
    ]
    return padded_text(json.dumps(rows, separators=(",", ":")))


class PoseSource(Source, Protocol):
    """A source of images with poses; records have `poses`, `size` and `image_id` besides.

    Attributes:
      poses: Of each image, reading none.
      sizes: Height and width of each image.
      image_ids: The number of each image in its dataset.
      names: The name of each image's file.
    """

    poses: Sequence[Poses]
    sizes: Sequence[tuple[int, int]]
    image_ids: Sequence[int]
    names: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Crop:
    """A part of an image that a model sees.

    Attributes:
      image: Index of the image in its source.
      box: x1, y1, x2, y2; None where an image has no box and the crop only brings its truth.
      score: Of the box, 0 .. 1.
      pose: Index of the true pose in the box, or -1 if it is not known.
    """

    image: int
    box: tuple[float, float, float, float] | None
    score: float = 1.0
    pose: int = -1


@dataclasses.dataclass(frozen=True)
class CropSource:
    """Random access to crops of the images of a source.

    Attributes:
      source: Of the images.
      crops: Those of an image after each other.
      truths: Whether the first crop of an image brings the poses of all of it, for an evaluation.
    """

    source: PoseSource
    crops: tuple[Crop, ...]
    truths: bool

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, index: int) -> Record:
        """A record of the image, with its index, and the crop's.

        Besides what the image has: `image_index`; `box`, or None; `box_score`; `points` float32
        `[K, 3]` of its true pose, or None; `truth`, the `Poses` of the image, or None.
        """
        crop = self.crops[index]
        poses = self.source.poses[crop.image]
        first = index == 0 or self.crops[index - 1].image != crop.image
        return {
            **self.source[crop.image],
            "image_index": crop.image,
            "box": crop.box,
            "box_score": crop.score,
            "points": None if crop.pose < 0 else poses.points[crop.pose],
            "truth": poses if first and self.truths else None,
        }


def true_crops(source: PoseSource, required: np.ndarray) -> list[list[Crop]]:
    """For each image the crops of its usable poses, see `Poses.usable`."""
    rows = []
    for index, (poses, size) in enumerate(zip(source.poses, source.sizes, strict=True)):
        boxes = poses.clipped_boxes(size)
        chosen = np.flatnonzero(poses.usable(size, required)).tolist()
        rows.append([Crop(index, tuple(boxes[i].tolist()), pose=i) for i in chosen])
    return rows


def training_crops(source: PoseSource, required: np.ndarray) -> CropSource:
    """The usable poses of a split; a line of the log counts those that are left out.

    Raises:
      DatasetError: There is none.
    """
    crops = tuple(crop for row in true_crops(source, required) for crop in row)
    total = sum(map(len, source.poses))
    unusable = (
        f"{total - len(crops)} of {total} poses (crowds, without area in the image, or without a "
        "labeled keypoint of the first part)"
    )
    if not crops:
        raise DatasetError(f"There is no pose to learn from; unusable are {unusable}.")
    if len(crops) < total:
        _LOG.info("Left out of training: %s", unusable)
    return CropSource(source, crops, truths=False)


def eval_crops(source: PoseSource, crops: Iterable[Sequence[Crop]]) -> CropSource:
    """The crops of each image for an evaluation; an image of none brings its truth all the same."""
    rows = [crop for index, row in enumerate(crops) for crop in row or (Crop(index, None),)]
    return CropSource(source, tuple(rows), truths=True)


def detected_crops(source: PoseSource, path: str, kind: str) -> list[list[Crop]]:
    """For each image the boxes that a detector found.

    Args:
      source: Of the images.
      path: A JSON file: COCO's results, a list of `image_id`, `category_id` (1 is taken), `bbox`
        (x, y, width, height) and `score`; or what `predict --format=json` prints, a list of `file`
        and `detections`.
      kind: Name of the objects that are taken where categories are named.

    Raises:
      DatasetError: It is no such file, has a box of an image that is not in the source (COCO's
        results), or has none of an image that is.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"eval.boxes={path}: not a readable JSON file ({error}).") from error
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise DatasetError(f"eval.boxes={path}: it is a list of detections.")
    by_name = {name: index for index, name in enumerate(source.names)}
    by_id = {number: index for index, number in enumerate(source.image_ids)}
    rows: list[list[Crop]] = [[] for _ in source.names]
    for number, row in enumerate(content):
        where = f"eval.boxes={path}: entry {number}"
        if "detections" in row:
            # A folder may hold images of no pose.
            index = by_name.get(str(row.get("file")).replace("\\", "/").rpartition("/")[2])
            entries = [d for d in row["detections"] if d.get("category") == kind]
        else:
            index = by_id.get(row.get("image_id"))
            entries = [row] if row.get("category_id") == 1 else []
            if index is None:
                raise DatasetError(
                    f"{where}: image_id {row.get('image_id')!r} is none of this split's images."
                )
        if index is not None:
            rows[index] += [_detected_crop(index, entry, where) for entry in entries]
    if not any(rows):
        raise DatasetError(
            f"eval.boxes={path} has no box of a {kind} in an image of this split; is it another "
            "dataset's?"
        )
    return rows


def _detected_crop(index: int, entry: dict[str, Any], where: str) -> Crop:
    box, score = entry.get("bbox"), entry.get("score")
    numbers = [*box, score] if isinstance(box, list) and len(box) == 4 else [None]
    if not all(isinstance(v, int | float) and np.isfinite(v) for v in numbers) or score < 0:
        raise DatasetError(
            f"{where}: bbox {box!r:.60} and score {score!r:.20}; they are x, y, width, height, and "
            "a number of at least 0."
        )
    x, y, width, height = box
    return Crop(index, (x, y, x + width, y + height), float(score))
