"""Resampling of pixel arrays without antialiasing, number for number as OpenCV does it.

Segmentation's published recipes resize with OpenCV; Pillow's bilinear filter antialiases.
"""

import dataclasses

import numpy as np

# OpenCV's weights are multiples of 1/2048.
_UNIT = 2048


@dataclasses.dataclass(frozen=True)
class Window:
    """A part of an image that has been resized.

    Attributes:
      size: Height and width that the whole image is resized to.
      top, left, height, width: The part, inside of it.
    """

    size: tuple[int, int]
    top: int
    left: int
    height: int
    width: int

    @classmethod
    def whole(cls, size: tuple[int, int]) -> "Window":
        """All of the resized image."""
        return cls(size, 0, 0, *size)


def resample_image(pixels: np.ndarray, window: Window) -> np.ndarray:
    """Bilinear, with pixel centers at halves, and the border repeated outside.

    Only the window is computed, so a crop of an enlarged image costs as much as a small one.

    Args:
      pixels: uint8 `[H, W, C]`.
      window: What is wanted.

    Returns:
      uint8 `[window.height, window.width, C]`, equal to OpenCV's `INTER_LINEAR`.
    """
    if pixels.shape[:2] == window.size:
        bottom, right = window.top + window.height, window.left + window.width
        return pixels[window.top : bottom, window.left : right]
    height, width, channels = pixels.shape
    columns = _coordinates(width, window.size[1], window.left, window.width)
    rows = _coordinates(height, window.size[0], window.top, window.height)
    left = np.clip(np.floor(columns).astype(np.intp), 0, width - 1)
    # Outside of the outer centers OpenCV takes the border's column as it is ...
    right_weight = _weights(np.clip(columns, 0, width - 1) - left).repeat(channels)
    upper = np.floor(rows).astype(np.intp)
    # ... but weighs the border's row with itself, which rounds otherwise.
    lower_weight = _weights(rows - upper)[:, None]
    needed = np.clip([upper[0], upper[-1] + 1], 0, height - 1)
    source = pixels[needed[0] : needed[1] + 1].reshape(-1, width * channels)
    mixed = _columns(source, left, channels) * (_UNIT - right_weight)
    mixed += _columns(source, np.minimum(left + 1, width - 1), channels) * right_weight
    # OpenCV drops four bits here, and the rest of the fraction after the rows.
    mixed >>= 4
    result = _weighted_rows(mixed, upper - needed[0], _UNIT - lower_weight)
    result += _weighted_rows(mixed, upper + 1 - needed[0], lower_weight)
    result += 2
    result >>= 2
    return result.astype(np.uint8).reshape(window.height, window.width, channels)


def resample_mask(mask: np.ndarray, window: Window) -> np.ndarray:
    """Nearest: row i is row floor(i H / h) of a mask of H rows, resized to h.

    Equal to OpenCV's `INTER_NEAREST`, also where rounding of that quotient decides.

    Args:
      mask: `[H, W]` of any type.
      window: What is wanted.

    Returns:
      `[window.height, window.width]` of the same type.
    """
    rows = _nearest(len(mask), window.size[0], window.top, window.height)
    columns = _nearest(mask.shape[1], window.size[1], window.left, window.width)
    return mask[rows].take(columns, axis=1)


def _coordinates(before: int, after: int, first: int, count: int) -> np.ndarray:
    """float32 `[count]`: where the pixels from `first` on are in the image before resizing."""
    return ((np.arange(first, first + count) + 0.5) * (before / after) - 0.5).astype(np.float32)


def _nearest(before: int, after: int, first: int, count: int) -> np.ndarray:
    places = np.arange(first, first + count) * (1 / (after / before))
    return np.minimum(places.astype(np.intp), before - 1)


def _weights(fractions: np.ndarray) -> np.ndarray:
    return np.rint(fractions.astype(np.float32) * _UNIT).astype(np.int32)


def _columns(rows: np.ndarray, index: np.ndarray, channels: int) -> np.ndarray:
    # A flat row: numbers are copied faster one by one than pixels of three.
    flat = (index[:, None] * channels + np.arange(channels)).reshape(-1)
    return rows.take(flat, axis=1)


def _weighted_rows(rows: np.ndarray, index: np.ndarray, weights: np.ndarray) -> np.ndarray:
    chosen = rows.take(np.clip(index, 0, len(rows) - 1), axis=0)
    chosen *= weights
    chosen >>= 16
    return chosen
