"""Masks as COCO's run-length codes: made of polygons, runs and bitmaps, checked, decoded."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from cluenet_jax.errors import UserError

# "size": [height, width]; "counts": bytes, compressed as pycocotools does.
Rle = dict[str, Any]
Size = tuple[int, int]
# Coordinates of a polygon may leave the image by this many of its longer side: pycocotools walks
# along every edge pixel by pixel, which takes forever on a coordinate such as 1e12.
_REACH = 10


def encode_bitmap(bitmap: np.ndarray) -> Rle:
    """The code of a bitmap, bool or uint8 `[H, W]`, of which nothing but 0 is outside."""
    return coco_mask.encode(np.asfortranarray(bitmap != 0, np.uint8))


def decode_rle(rle: Rle) -> np.ndarray:
    """uint8 `[H, W]`, 0 and 1."""
    return coco_mask.decode(rle)


def area_of(rle: Rle) -> float:
    """Number of pixels."""
    return float(coco_mask.area(rle))


def read_segmentation(segmentation: Any, size: Size) -> Rle | None:
    """The code of what a COCO file says of an instance's pixels.

    Args:
      segmentation: A list of polygons, each x1, y1, x2, y2, ... in pixels, filled by pycocotools'
        rule and united; or a dict of `size` and `counts`, a list of runs or their compressed
        text; or None or an empty list for none.
      size: Height and width of the image.

    Returns:
      The code; None if there is no segmentation.

    Raises:
      UserError: It is none of these; says what is wrong and what would be right.
    """
    if segmentation is None or segmentation == []:
        return None
    if isinstance(segmentation, dict):
        return _read_runs(segmentation, size)
    if not isinstance(segmentation, list):
        raise UserError(
            f"segmentation is {segmentation!r:.40}; it is a list of polygons, or a dict of size "
            "and counts."
        )
    for number, polygon in enumerate(segmentation):
        _check_polygon(polygon, number, size)
    return coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))


def _check_polygon(polygon: Any, number: int, size: Size) -> None:
    if not isinstance(polygon, list) or not are_numbers(polygon):
        raise UserError(
            f"polygon {number} is {polygon!r:.40}; it is a list of finite numbers x1, y1, x2, y2, "
            "... and a segmentation is a list of such lists."
        )
    if len(polygon) % 2:
        raise UserError(
            f"polygon {number} has {len(polygon)} coordinates, an odd number; each point has two."
        )
    if len(polygon) < 6:
        raise UserError(
            f"polygon {number} has {len(polygon) // 2} points; at least 3 enclose pixels."
        )
    farthest = max(map(abs, polygon))
    if farthest > _REACH * max(size):
        raise UserError(
            f"polygon {number} has a coordinate of {farthest:g}, far outside of the image of "
            f"{size[1]}x{size[0]} pixels."
        )


def _read_runs(segmentation: dict[str, Any], size: Size) -> Rle:
    counts, own_size = segmentation.get("counts"), segmentation.get("size")
    if own_size != [*size]:
        raise UserError(
            f"an RLE of size {own_size}; the image's is {[*size]} (height, width), and so must be "
            "its masks'."
        )
    runs = counts if isinstance(counts, list) else run_lengths(counts)
    if not all(isinstance(run, int) and run >= 0 for run in runs) or sum(runs) != math.prod(size):
        raise UserError(
            f"the runs of an RLE must be whole numbers from 0, with a sum of height x width = "
            f"{math.prod(size)} pixels; they are {str(runs):.60}."
        )
    if isinstance(counts, list):
        return coco_mask.frPyObjects(segmentation, *size)
    return {"size": [*size], "counts": counts.encode() if isinstance(counts, str) else counts}


def run_lengths(counts: str | bytes) -> list[int]:
    """The runs of a compressed code, unset pixels first.

    Each number is in groups of five bits, the lowest first, in characters from "0"; a sixth bit
    says that more follow, and the highest of the last five is the sign. From the fourth on they
    are differences from the second before.

    Raises:
      UserError: It is no such text. (pycocotools would read beyond its end, or write beyond its
        image's.)
    """
    if not isinstance(counts, str | bytes):
        raise UserError(f"counts of an RLE is {counts!r:.40}; it is a list of runs, or text.")
    runs: list[int] = []
    value = shift = 0
    for character in counts.encode() if isinstance(counts, str) else counts:
        bits = character - ord("0")
        if not 0 <= bits < 64 or shift > 30:
            raise UserError(
                f"counts of an RLE is {counts!r:.40}, not the text of a compressed one."
            )
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << shift - 4
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise UserError(f"counts of an RLE ends in the middle of a number: {counts!r:.40}.")
    return runs


def is_number(value: Any) -> bool:
    """Whether something of a JSON file is a finite number."""
    return are_numbers([value])


def are_numbers(values: Sequence[Any]) -> bool:
    """Whether all of a list of a JSON file are finite numbers."""
    try:
        return {*map(type, values)} <= {int, float} and all(map(math.isfinite, values))
    except OverflowError:
        # A whole number of hundreds of digits.
        return False
