"""Random and fixed geometric transforms of images with instances: one geometry for all of it.

Source: what mmdetection's COCO recipes of Mask R-CNN do: resize, crop, horizontal flip, padding to
a canvas.
"""

import functools
import logging
import math
from collections.abc import Sequence

import numpy as np

from cluenet_jax.data.instances import Instances
from cluenet_jax.data.records import Example
from cluenet_jax.data.rle import decode_rle
from cluenet_jax.data.transforms.resample import Window
from cluenet_jax.data.transforms.segmentation import Geometry, align_size, fit_size

Size = tuple[int, int]
# Applied one after another.
Steps = tuple[Geometry, ...]
_LOG = logging.getLogger(__name__)


def resize_steps(
    size: Size, scale: tuple[int, int], flip: bool = False, canvas: Size | None = None
) -> Steps:
    """A resize to the largest size of the same aspect within a scale, then maybe a mirror.

    Args:
      size: Height and width of the image.
      scale: Bounds of the longer and the shorter side, such as (1333, 800).
      flip: Whether left and right change places.
      canvas: Height and width of what must hold the result, which is made smaller if need be.
    """
    resized = fit_size(size, scale)
    return (Geometry(Window.whole(_within(resized, canvas or resized)), flip),)


def _within(size: Size, canvas: Size) -> Size:
    factor = min(1, *np.divide(canvas, size))
    sides = zip(size, canvas, strict=True)
    return tuple(min(limit, max(1, int(side * factor + 0.5))) for side, limit in sides)


def draw_steps(
    size: Size,
    rng: np.random.Generator,
    *,
    scales: Sequence[tuple[int, int]],
    flip_prob: float = 0.5,
    crop_prob: float = 0.0,
    crop_scales: Sequence[tuple[int, int]] = (),
    crop_sides: tuple[int, int] = (384, 600),
    canvas: Size | None = None,
) -> Steps:
    """Draws a resize that keeps the aspect, before it maybe a crop, and a horizontal flip.

    Args:
      size: Height and width of the image.
      rng: Source of the draws.
      scales: Bounds of the longer and the shorter side, of which one is drawn.
      flip_prob: Of the flip.
      crop_prob: Of the crop: the image is resized to one of `crop_scales`, and of that a part is
        resized as above. Half, for the protocol of 36 epochs.
      crop_scales: As `scales`, for images that are cropped.
      crop_sides: Bounds of the height and of the width of the crop, each uniform; the image's own
        where that is smaller.
      canvas: Of the group of the image, for `resize_steps`: a part of a wide image may be high.
        (Mask R-CNN's PyTorch recipes pad to the largest image of a batch instead.)
    """
    steps: Steps = ()
    if rng.random() < crop_prob:
        steps = (_draw_crop(size, rng, crop_scales, crop_sides),)
        size = size_after(steps)
    flip = bool(rng.random() < flip_prob)
    return (*steps, *resize_steps(size, scales[rng.integers(len(scales))], flip, canvas))


def _draw_crop(
    size: Size, rng: np.random.Generator, scales: Sequence[tuple[int, int]], sides: tuple[int, int]
) -> Geometry:
    whole = fit_size(size, scales[rng.integers(len(scales))])
    height, width = (int(rng.integers(*np.minimum(side, sides) + (0, 1))) for side in whole)
    top, left = rng.integers(whole[0] - height + 1), rng.integers(whole[1] - width + 1)
    return Geometry(Window(whole, int(top), int(left), height, width))


def size_after(steps: Steps) -> Size:
    """Height and width of an image after its steps."""
    return steps[-1].window.height, steps[-1].window.width


def move_image(pixels: np.ndarray, steps: Steps) -> np.ndarray:
    """uint8 `[H, W, 3]` to uint8 `[h, w, 3]`, bilinear."""
    for step in steps:
        pixels = step.apply_image(pixels)
    return pixels


def _move_bitmap(bitmap: np.ndarray, steps: Steps) -> np.ndarray:
    for step in steps:
        bitmap = step.apply_mask(bitmap)
    return bitmap


def _move_boxes(boxes: np.ndarray, size: Size, steps: Steps) -> np.ndarray:
    boxes = boxes.astype(np.float32)
    for step in steps:
        boxes = step.apply_boxes(boxes, size)
        size = size_after((step,))
    return boxes


def truth_slots(
    instances: Instances,
    size: Size,
    steps: Steps,
    *,
    num_slots: int,
    canvas: Size | None,
    name: str = "image",
) -> Example:
    """The truths of an image after its steps, in M slots of fixed shapes.

    Crowds, and what no pixel of is left, take no slot. Of more truths than slots those with the
    largest boxes are kept, which a line of the log tells once for each image. They are in the
    order of the file, before the empty slots.

    Args:
      instances: Of the image.
      size: Height and width of the image before the steps.
      steps: The image's.
      num_slots: M.
      canvas: Height and width of the bitmaps, at least the image's after the steps, the width a
        multiple of 8; None for no bitmaps.
      name: The image's, for the log.

    Returns:
      `boxes` float32 `[M, 4]`, x1, y1, x2, y2 in the image after the steps; `labels` int32 `[M]`;
      `present` bool `[M]`: which slots hold a truth. If there is a canvas, `bitmaps` uint8
      `[M, height, width / 8]` of `numpy.packbits`: masks decoded at the size of the file, then
      moved by nearest neighbors; 0 where the image does not reach. Empty slots are zeros.

    Raises:
      ImageError: There is a canvas, and an instance without a mask.
    """
    boxes = _move_boxes(instances.boxes, size, steps)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    chosen = _choose(areas, (areas > 0) & ~instances.crowd, num_slots, name)
    count = len(chosen)
    slots = {
        "boxes": np.zeros((num_slots, 4), np.float32),
        "labels": np.zeros(num_slots, np.int32),
        "present": np.arange(num_slots) < count,
    }
    slots["boxes"][:count] = boxes[chosen]
    slots["labels"][:count] = instances.labels[chosen]
    if canvas is not None:
        instances.check_masks(name)
        height, _ = size_after(steps)
        slots["bitmaps"] = np.zeros(bitmaps_shape(num_slots, canvas), np.uint8)
        for bitmap, index in zip(slots["bitmaps"], chosen, strict=False):
            moved = np.packbits(_move_bitmap(decode_rle(instances.masks[index]), steps), axis=-1)
            bitmap[:height, : moved.shape[1]] = moved
    return slots


def bitmaps_shape(num_slots: int, canvas: Size) -> tuple[int, int, int]:
    """The shape of packed bitmaps: a byte holds eight pixels of a row."""
    return num_slots, canvas[0], canvas[1] // 8


def _choose(areas: np.ndarray, usable: np.ndarray, num_slots: int, name: str) -> np.ndarray:
    """Ascending indices of those that get a slot."""
    indices = np.flatnonzero(usable)
    if len(indices) <= num_slots:
        return indices
    _report_dropped(name, len(indices), num_slots)
    # Of equal boxes the first in the file.
    largest = np.argsort(-areas[indices], kind="stable")[:num_slots]
    return np.sort(indices[largest])


@functools.cache
def _report_dropped(name: str, count: int, num_slots: int) -> None:
    # An image comes again in every epoch.
    _LOG.warning(
        "%s has %d instances; the %d of the largest boxes are learned, %d are not.",
        name, count, num_slots, count - num_slots)  # fmt: skip


def is_wide(size: Size) -> bool:
    """Whether an image is wider than high; the group whose canvases it takes."""
    return size[1] > size[0]


def list_canvases(scale: tuple[int, int], *, multiple: int = 32, steps: int = 1) -> list[Size]:
    """A few sizes that hold all images resized to a scale.

    Args:
      scale: As for `fit_size`.
      multiple: Of which all sides are multiples.
      steps: Number of landscape canvases, whose widths grow from the scale's shorter to its longer
        side by equal steps. Every size is a program of its own, and padding costs time.

    Returns:
      Heights and widths: of landscape images, and mirrored those of portrait ones.
    """
    longer, shorter = max(scale), min(scale)
    widths = (shorter + (longer - shorter) * step / steps for step in range(1, steps + 1))
    landscape = [align_size((shorter, math.ceil(width)), multiple) for width in widths]
    portrait = [(width, height) for height, width in landscape]
    return [*dict.fromkeys(landscape + portrait)]


def pick_canvas(size: Size, canvases: Sequence[Size]) -> Size:
    """The smallest canvas of an image's group that holds it.

    Args:
      size: Height and width of the image after its steps.
      canvases: Heights and widths. Wide images take wide ones, the others, squares among them,
        high ones; both take square ones.

    Raises:
      ValueError: The image fits into none.
    """
    fitting = [
        canvas
        for canvas in canvases
        if (canvas[0] == canvas[1] or is_wide(canvas) == is_wide(size))
        and canvas[0] >= size[0]
        and canvas[1] >= size[1]
    ]
    if not fitting:
        raise ValueError(f"An image of {size[0]}x{size[1]} pixels fits into none of {canvases}.")
    return min(fitting, key=math.prod)
