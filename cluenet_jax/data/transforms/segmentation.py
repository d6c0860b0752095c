"""Random and fixed geometric transforms of images with masks: one geometry for both.

Source: what mmsegmentation's ADE20K recipes share, in their order: resize, crop, horizontal flip,
`color.photometric_distortion`, padding.
"""

import dataclasses
import math

import numpy as np

from cluenet_jax.data.decode_mask import IGNORED
from cluenet_jax.data.transforms.resample import Window, resample_image, resample_mask

# Places that are tried for a crop before one is taken unchecked.
_ATTEMPTS = 10


@dataclasses.dataclass(frozen=True)
class Geometry:
    """A geometric transform of an image and of all that belongs to its pixels.

    Attributes:
      window: The resized image, and the part that is cropped of it.
      flip: Whether left and right change places afterwards.
    """

    window: Window
    flip: bool = False

    def apply_image(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 `[H, W, 3]` to uint8 `[window.height, window.width, 3]`, bilinear."""
        return self._flipped(resample_image(pixels, self.window))

    def apply_mask(self, mask: np.ndarray) -> np.ndarray:
        """`[H, W]` to `[window.height, window.width]` of the same type, nearest."""
        return self._flipped(resample_mask(mask, self.window))

    def apply_boxes(self, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Boxes, cut at the border of the window; those outside of it have no width or height.

        Args:
          boxes: `[N, 4]`: x1, y1, x2, y2, continuous.
          size: Height and width of the image before.

        Returns:
          float32 `[N, 4]`. Each axis has the factor of its own rounded length.
        """
        window = self.window
        factors = np.divide(window.size, size).astype(np.float32)[[1, 0, 1, 0]]
        corner = np.float32([window.left, window.top] * 2)
        border = np.float32([window.width, window.height] * 2)
        moved = (boxes.astype(np.float32) * factors - corner).clip(0, border)
        if self.flip:
            moved[:, [0, 2]] = window.width - moved[:, [2, 0]]
        return moved

    def _flipped(self, array: np.ndarray) -> np.ndarray:
        return array[:, ::-1] if self.flip else array


def fit_size(size: tuple[int, int], scale: tuple[int, int]) -> tuple[int, int]:
    """The largest size of the same aspect within a scale, rounded to the nearest.

    Args:
      size: Height and width.
      scale: Bounds of the longer and of the shorter side, in any order.

    Returns:
      Height and width, at least 1.
    """
    factor = min(max(scale) / max(size), min(scale) / min(size))
    return tuple(max(1, int(side * factor + 0.5)) for side in size)


def align_size(size: tuple[int, int], multiple: int) -> tuple[int, int]:
    """Height and width, each up to a multiple."""
    return tuple(math.ceil(side / multiple) * multiple for side in size)


def draw_geometry(
    mask: np.ndarray,
    rng: np.random.Generator,
    *,
    scale: tuple[int, int],
    ratio: tuple[float, float],
    crop: tuple[int, int],
    max_class_fraction: float = 0.75,
    flip_prob: float = 0.5,
) -> Geometry:
    """Draws a resize that keeps the aspect, a crop and a horizontal flip.

    Args:
      mask: uint8 `[H, W]`, labels and `IGNORED`.
      rng: Source of the draws.
      scale: Bounds of the longer and the shorter side for a ratio of 1, such as (2048, 512).
      ratio: Bounds of the uniform factor that both are multiplied with, and rounded down.
      crop: Height and width of the crop; the resized image's own where that is smaller.
      max_class_fraction: A place of the crop is refused, up to ten times, if a class has this
        fraction of its labeled pixels or more, or if no two classes are in it. 1 refuses none.
      flip_prob: Of the flip.
    """
    factor = rng.uniform(*ratio)
    size = fit_size(mask.shape, tuple(int(side * factor) for side in scale))
    window = _draw_window(size, crop, rng)
    for _ in range(_ATTEMPTS if max_class_fraction < 1 else 0):
        if _is_mixed(resample_mask(mask, window), max_class_fraction):
            break
        window = _draw_window(size, crop, rng)
    return Geometry(window, bool(rng.random() < flip_prob))


def _draw_window(size: tuple[int, int], crop: tuple[int, int], rng: np.random.Generator) -> Window:
    height, width = (min(sides) for sides in zip(size, crop, strict=True))
    top, left = rng.integers(size[0] - height + 1), rng.integers(size[1] - width + 1)
    return Window(size, int(top), int(left), height, width)


def _is_mixed(mask: np.ndarray, max_class_fraction: float) -> bool:
    counts = np.bincount(mask.ravel(), minlength=IGNORED + 1)[:IGNORED]
    return (counts > 0).sum() > 1 and counts.max() < max_class_fraction * counts.sum()


def resize_to_fit(pixels: np.ndarray, scale: tuple[int, int], multiple: int = 1) -> np.ndarray:
    """An image as it is evaluated: as large as a scale allows, its aspect kept.

    Args:
      pixels: uint8 `[H, W, 3]`.
      scale: As for `fit_size`.
      multiple: Above 1, the result is resized again, both sides up to a multiple of it, as PVT
        does; its aspect changes a little.

    Returns:
      uint8 `[h, w, 3]`.
    """
    size = fit_size(pixels.shape[:2], scale)
    resized = resample_image(pixels, Window.whole(size))
    return resample_image(resized, Window.whole(align_size(size, multiple)))


def pad_bottom_right(
    pixels: np.ndarray, mask: np.ndarray, size: tuple[int, int], fill: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Enlarges an image and its mask to a size.

    The reference pads with 0 after normalizing. `fill` of the rounded mean color is that up to
    0.009 of a standard deviation.

    Args:
      pixels: uint8 `[H, W, 3]`.
      mask: uint8 `[H, W]`.
      size: Height and width, at least those of the image.
      fill: Color of the new pixels; their label is `IGNORED`.

    Returns:
      uint8 `[*size, 3]` and uint8 `[*size]`, of their own memory.
    """
    labels = np.full(size, IGNORED, np.uint8)
    labels[: mask.shape[0], : mask.shape[1]] = mask
    return pad_image(pixels, size, fill), labels


def pad_image(pixels: np.ndarray, size: tuple[int, int], fill: tuple[int, int, int]) -> np.ndarray:
    """Enlarges an image at the bottom and at the right; uint8 `[*size, 3]`, of its own memory."""
    height, width = pixels.shape[:2]
    image = np.empty((*size, 3), np.uint8)
    image[:height, :width] = pixels
    image[height:], image[:height, width:] = fill, fill
    return image
