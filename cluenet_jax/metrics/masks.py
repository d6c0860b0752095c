"""Masks of detections: small maps pasted into their boxes, as run-length codes."""

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask


def paste_mask(probabilities: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Samples a map at the centers of an image's pixels, bilinearly.

    Args:
      probabilities: float32 `[S, S]`, stretched over the box; 0 beyond its outer centers.
      box: `[4]`: x1, y1, x2, y2 in pixels of the image, of which it may leave some outside.
      size: Height and width of the image.

    Returns:
      float32 `[*size]`; 0 where the map does not reach, and everywhere if the box has no area.

    Source: mmdetection's `_do_paste_mask`, detectron2's `paste_masks_in_image`.
    """
    image = np.zeros(size, np.float32)
    rows, columns, values = _paste(probabilities, box, size)
    image[rows, columns] = values
    return image


def encode_mask(logits: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    """The code of the pixels where a pasted map is 0.5 or more.

    Args:
      logits: float32 `[S, S]`; their sigmoid is pasted.
      box, size: As for `paste_mask`.

    Returns:
      `size`, height and width, and `counts`, bytes, as pycocotools has them.
    """
    rows, columns, values = _paste(_sigmoid(logits), box, size)
    runs = _runs(values >= 0.5, rows.start, columns.start, size)
    return coco_mask.frPyObjects({"size": [*size], "counts": runs}, *size)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    # Without an overflow of exp at either end.
    return (np.float32(0.5) * (np.tanh(np.float32(0.5) * logits) + np.float32(1))).astype(
        np.float32
    )


def _paste(
    probabilities: np.ndarray, box: np.ndarray, size: tuple[int, int]
) -> tuple[slice, slice, np.ndarray]:
    """The rows and columns that a map reaches, and its values there."""
    x1, y1, x2, y2 = np.float32(box)
    rows, vertical = _weights(y1, y2, size[0], probabilities.shape[0])
    columns, horizontal = _weights(x1, x2, size[1], probabilities.shape[1])
    return rows, columns, vertical @ probabilities @ horizontal.T


def _weights(first: np.float32, last: np.float32, length: int, side: int):
    """The pixels of an axis that a map of `side` reaches, and float32 `[pixels, side]`."""
    if not last > first:
        return slice(0, 0), np.zeros((0, side), np.float32)
    centers = np.arange(length, dtype=np.float32) + np.float32(0.5)
    places = (centers - first) / (last - first) * np.float32(side) - np.float32(0.5)
    reached = np.flatnonzero((places > -1) & (places < side))
    if not reached.size:
        return slice(0, 0), np.zeros((0, side), np.float32)
    pixels = slice(int(reached[0]), int(reached[-1]) + 1)
    distances = np.abs(places[pixels, None] - np.arange(side, dtype=np.float32))
    return pixels, np.maximum(np.float32(1) - distances, 0)


def _runs(bitmap: np.ndarray, top: int, left: int, size: tuple[int, int]) -> list[int]:
    """Lengths of the runs of 0 and 1 in turns, down the columns of an image, 0 first.

    Only the part of the image that `bitmap`, bool `[h, w]`, covers is walked through.
    """
    height, width = bitmap.shape
    framed = np.zeros((width, height + 2), np.int8)
    framed[:, 1:-1] = bitmap.T
    changes = np.diff(framed, axis=1)
    offsets = (left + np.arange(width)) * size[0] + top
    edges = (offsets[:, None] + np.arange(height + 1))[changes != 0]
    # A run that goes from a column's bottom to the next one's top ends and starts at once.
    starts, ends = edges[::2], edges[1::2]
    apart = starts[1:] != ends[:-1]
    starts, ends = starts[np.r_[True, apart][: len(starts)]], ends[np.r_[apart, True][: len(ends)]]
    bounds = np.stack([starts, ends], axis=1).ravel()
    return np.diff(np.r_[0, bounds, size[0] * size[1]]).tolist()
