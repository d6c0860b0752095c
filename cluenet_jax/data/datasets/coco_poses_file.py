"""Reading and checking of a file of COCO keypoints, with those of COCO-WholeBody or without.

Source: COCO's format of person keypoints; COCO-WholeBody V1.0 (arXiv 2007.11858).
"""

import collections
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from cluenet_jax.data.datasets.coco_file import (
    CocoImage,
    entries_of,
    is_id,
    optional_number,
    read_box,
    read_image,
    read_json,
)
from cluenet_jax.data.poses import Poses
from cluenet_jax.data.rle import are_numbers
from cluenet_jax.data.skeletons import Skeleton
from cluenet_jax.errors import DatasetError

# Where an annotation has its keypoints, in their order.
BODY = ("keypoints",)
WHOLE_BODY = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")


@dataclasses.dataclass(frozen=True)
class PosesFile:
    """What a file says.

    Attributes:
      kind: Name of the objects.
      skeleton: Of the names and limbs that the file gives; None if it gives none.
      images: By id, in the file's order.
      poses: By the id of their image, in the file's order; of images that have any.
    """

    kind: str
    skeleton: Skeleton | None
    images: Mapping[int, CocoImage]
    poses: Mapping[int, Poses]


def read_poses_file(
    path: pathlib.Path, keys: tuple[str, ...], num_keypoints: int | None
) -> PosesFile:
    """Reads a file of annotations and checks all of it.

    Args:
      path: Of the file.
      keys: `BODY` or `WHOLE_BODY`.
      num_keypoints: K; None for as many as the file names.

    Raises:
      DatasetError: Says which entry is wrong, and what would be right.
    """
    content = read_json(path)
    images = {
        key: read_image(entry, where) for key, entry, where in entries_of(content, "images", path)
    }
    category, kind, skeleton = _category(content, path)
    count = len(skeleton) if skeleton and num_keypoints is None else num_keypoints
    if count is None:
        raise DatasetError(f"{path}: its category names no keypoints; `keypoints` lists them.")
    rows = collections.defaultdict(list)
    for _, entry, where in entries_of(content, "annotations", path):
        image_id = entry.get("image_id")
        if not is_id(image_id) or image_id not in images:
            raise DatasetError(f"{where}: image_id {image_id!r} is the id of no image of the file.")
        if entry.get("category_id") == category:
            rows[image_id].append(_row(entry, keys, count, where))
    poses = {key: Poses.of_rows(image_rows, count) for key, image_rows in rows.items()}
    return PosesFile(kind, skeleton, images, poses)


def _category(content: dict[str, Any], path: pathlib.Path) -> tuple[int, str, Skeleton | None]:
    """The id and the name of the only category of keypoints, and its skeleton."""
    categories = [entry for _, entry, _ in entries_of(content, "categories", path)]
    posed = [entry for entry in categories if entry.get("keypoints")] or categories
    if len(posed) != 1:
        raise DatasetError(
            f"{path}: {len(posed)} of its categories have keypoints; poses are of one kind."
        )
    (entry,) = posed
    names, limbs = entry.get("keypoints"), entry.get("skeleton") or []
    if not names:
        return entry["id"], str(entry.get("name")), None
    where = f"{path}: the category {entry.get('name')!r}"
    if not isinstance(names, list) or len({*map(str, names)}) < len(names):
        raise DatasetError(f"{where}: keypoints are {names!r:.80}; they are a list of names.")
    numbers = range(1, len(names) + 1)
    if not isinstance(limbs, list) or not all(
        isinstance(limb, list) and len(limb) == 2 and {*limb} <= {*numbers} for limb in limbs
    ):
        raise DatasetError(
            f"{where}: skeleton is {limbs!r:.80}; it is a list of pairs of keypoints' numbers, 1 "
            f"to {len(names)}."
        )
    pairs = tuple((first - 1, second - 1) for first, second in limbs)
    return entry["id"], str(entry.get("name")), Skeleton.of_names(tuple(names), pairs)


def _row(entry: dict[str, Any], keys: tuple[str, ...], count: int, where: str) -> tuple:
    """Of `Poses.of_rows`."""
    x, y, width, height = read_box(entry, where)
    values = []
    for key in keys:
        part = entry.get(key)
        if not isinstance(part, list) or not are_numbers(part):
            raise DatasetError(
                f"{where}: {key} is {part!r:.60}; it is a list of finite numbers x, y, v of each "
                "keypoint."
            )
        values += part
    if len(values) != 3 * count:
        raise DatasetError(
            f"{where}: {len(values)} numbers in {' and '.join(keys)}; {count} keypoints have "
            f"{3 * count}: x, y, v of each."
        )
    points = np.array(values, np.float32).reshape(count, 3)
    area = optional_number(entry, "area", lambda: width * height, where)
    crowd = bool(optional_number(entry, "iscrowd", lambda: 0, where))
    return (x, y, x + width, y + height), points, area, crowd
