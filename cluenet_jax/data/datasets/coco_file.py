"""Reading and checking of a file of COCO annotations.

Source: the format of T.-Y. Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014.
"""

import collections
import dataclasses
import json
import logging
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from cluenet_jax.data.decode import MAX_PIXELS
from cluenet_jax.data.instances import Instances
from cluenet_jax.data.rle import Size, are_numbers, area_of, is_number, read_segmentation
from cluenet_jax.errors import DatasetError, UserError

_LISTS = ("images", "annotations", "categories")
_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class CocoImage:
    """An entry of `images`: the file's name, and the height and width that it says."""

    file_name: str
    size: Size


@dataclasses.dataclass(frozen=True)
class CocoFile:
    """What a file says.

    Attributes:
      categories: Names by id, ascending; the first one's label is 0.
      images: By id, in the file's order.
      instances: By the id of their image, in the file's order; of images that have any.
    """

    categories: Mapping[int, str]
    images: Mapping[int, CocoImage]
    instances: Mapping[int, Instances]


def read_coco_file(path: pathlib.Path) -> CocoFile:
    """Reads a file of annotations and checks all of it.

    Annotations of a category that the file does not name are left out, which a line of the log
    counts. Without `iscrowd` an instance is no crowd; without `area` it is its mask's or box's.

    Raises:
      DatasetError: Says which entry is wrong, and what would be right.
    """
    content = read_json(path)
    images = {
        key: read_image(entry, where) for key, entry, where in entries_of(content, "images", path)
    }
    categories = _categories(content, path)
    labels = {key: label for label, key in enumerate(categories)}
    rows = collections.defaultdict(list)
    unknown = []
    for key, entry, where in entries_of(content, "annotations", path):
        image_id, category = entry.get("image_id"), entry.get("category_id")
        if not is_id(image_id) or image_id not in images:
            raise DatasetError(f"{where}: image_id {image_id!r} is the id of no image of the file.")
        if not is_id(category) or category not in labels:
            unknown.append(key)
            continue
        rows[image_id].append(_row(entry, labels[category], images[image_id].size, where))
    _report_unknown(unknown, rows, path)
    instances = {key: Instances.of_rows(image_rows) for key, image_rows in rows.items()}
    return CocoFile(categories, images, instances)


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """The content of a file of annotations, with the three lists that it must have."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not a whole JSON file ({error}).") from error
    missing = [
        key
        for key in _LISTS
        if not isinstance(content, dict) or not isinstance(content.get(key), list)
    ]
    if missing:
        raise DatasetError(
            f"{path} has no list {' and no list '.join(missing)}; a file of COCO annotations is an "
            f"object with the lists {', '.join(_LISTS)}."
        )
    return content


def entries_of(content: dict[str, Any], kind: str, path: pathlib.Path):
    """Ids, entries, and where they are, for messages."""
    seen = set()
    for number, entry in enumerate(content[kind]):
        if not isinstance(entry, dict) or not is_id(entry.get("id")):
            raise DatasetError(
                f"{path}: {kind}[{number}] is {entry!r:.60}; it is an object, with a whole number "
                "as its id."
            )
        key = entry["id"]
        if key in seen:
            raise DatasetError(f"{path}: two of {kind} have the id {key}; ids are unique.")
        seen.add(key)
        yield key, entry, f"{path}: {kind}[{number}] (id {key})"


def is_id(value: Any) -> bool:
    """Whether something may be an id."""
    return type(value) is int


def read_image(entry: dict[str, Any], where: str) -> CocoImage:
    """An entry of `images`, checked."""
    name, size = entry.get("file_name"), (entry.get("height"), entry.get("width"))
    if not isinstance(name, str) or not name:
        raise DatasetError(f"{where}: file_name is {name!r}; it is the name of an image file.")
    if not all(type(side) is int and side > 0 for side in size) or math.prod(size) > MAX_PIXELS:
        raise DatasetError(
            f"{where}: height {size[0]!r} and width {size[1]!r}; they are whole numbers above 0, "
            f"of at most {MAX_PIXELS:,} pixels."
        )
    return CocoImage(name, size)


def _categories(content: dict[str, Any], path: pathlib.Path) -> dict[int, str]:
    names = {}
    for key, entry, where in entries_of(content, "categories", path):
        name = entry.get("name")
        if not isinstance(name, str) or not name:
            raise DatasetError(f"{where}: name is {name!r}; it is text.")
        names[key] = name
    if not names:
        raise DatasetError(f"{path} has no categories; each has an id and a name.")
    counts = collections.Counter(names.values())
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if repeated:
        raise DatasetError(f"{path}: categories named twice: {', '.join(repeated)}.")
    return dict(sorted(names.items()))


def _row(entry: dict[str, Any], label: int, size: Size, where: str) -> tuple:
    """Of `Instances.of_rows`."""
    x, y, width, height = read_box(entry, where)
    try:
        mask = read_segmentation(entry.get("segmentation"), size)
    except UserError as error:
        raise DatasetError(f"{where}: {error}") from error
    area = optional_number(entry, "area", lambda: area_of(mask) if mask else width * height, where)
    crowd = bool(optional_number(entry, "iscrowd", lambda: 0, where))
    return (x, y, x + width, y + height), label, area, crowd, mask


def read_box(entry: dict[str, Any], where: str) -> list[float]:
    """x, y, width and height."""
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not are_numbers(box):
        raise DatasetError(
            f"{where}: bbox is {box!r:.80}; it is 4 finite numbers: x, y, width, height."
        )
    return box


def optional_number(
    entry: dict[str, Any], key: str, default: Callable[[], float], where: str
) -> float:
    """The number under a key, or else the default."""
    if entry.get(key) is None:
        return default()
    # Some tools write true and false.
    value = int(entry[key]) if isinstance(entry[key], bool) else entry[key]
    if not is_number(value):
        raise DatasetError(f"{where}: {key} is {value!r:.40}; it is a finite number.")
    return value


def _report_unknown(unknown: list[int], rows: Mapping, path: pathlib.Path) -> None:
    if not unknown:
        return
    message = (
        f"{path}: {len(unknown)} annotations are of a category that the file does not name, the "
        f"first has the id {unknown[0]}"
    )
    if not rows:
        raise DatasetError(f"{message}; no annotation is left. Add them to its categories.")
    _LOG.warning("%s; they are left out.", message)
