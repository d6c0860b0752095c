"""Boxes of detectors: overlaps, anchors, and the deltas that a head predicts.

A box is (x1, y1, x2, y2) in pixels, continuous: its width is x2 - x1. Sizes are (height, width).
All numbers are mmdetection's, in float32 and its order of operations, because thresholds on them
decide what an anchor learns and which boxes are kept.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

# An anchor's side at ratio 1, in strides of its level; as published.
ANCHOR_SCALE = 8
# Height over width.
ANCHOR_RATIOS = (0.5, 1.0, 2.0)
# Deltas of widths and heights beyond are clamped, at both ends.
MAX_LOG_RATIO = abs(math.log(16 / 1000))
_SMALLEST_UNION = 1e-6


def box_iou(boxes: jax.Array, second: jax.Array) -> jax.Array:
    """Intersection over union of each pair, the union at least 1e-6.

    Args:
      boxes: `[..., N, 4]` float32; leading axes of both are broadcast.
      second: `[..., M, 4]` float32.

    Returns:
      `[..., N, M]` float32 in 0 .. 1.
    """
    boxes, second = boxes[..., :, None, :], second[..., None, :, :]

    def side(axis: int) -> jax.Array:
        low = jnp.maximum(boxes[..., axis], second[..., axis])
        high = jnp.minimum(boxes[..., axis + 2], second[..., axis + 2])
        return jnp.maximum(high - low, 0)

    # An axis of pairs after another: the two sides side by side would be slow to read.
    overlap = side(0) * side(1)
    union = _area(boxes) + _area(second) - overlap
    return overlap / jnp.maximum(union, _SMALLEST_UNION)


def _area(boxes: jax.Array) -> jax.Array:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def encode_boxes(boxes: jax.Array, targets: jax.Array, stds: tuple[float, ...]) -> jax.Array:
    """The deltas that move boxes to targets: shifts in sides of the box, logarithms of ratios.

    Args:
      boxes: `[..., 4]` float32, with an area.
      targets: `[..., 4]` float32, with an area.
      stds: Four numbers that the deltas are divided by.

    Returns:
      `[..., 4]` float32.
    """
    center, sides = _center_and_sides(boxes)
    target_center, target_sides = _center_and_sides(targets)
    shifts, ratios = (target_center - center) / sides, jnp.log(target_sides / sides)
    return jnp.concatenate([shifts, ratios], axis=-1) / jnp.asarray(stds, jnp.float32)


def decode_boxes(boxes: jax.Array, deltas: jax.Array, stds: tuple[float, ...]) -> jax.Array:
    """Boxes moved by deltas, the inverse of `encode_boxes` up to `MAX_LOG_RATIO`.

    Args:
      boxes: `[..., 4]` float32.
      deltas: `[..., 4]` float32; leading axes of both are broadcast.
      stds: Four numbers that the deltas are multiplied by.

    Returns:
      `[..., 4]` float32.
    """
    deltas = deltas * jnp.asarray(stds, jnp.float32)
    center, sides = _center_and_sides(boxes)
    center = center + sides * deltas[..., :2]
    ratios = jnp.exp(jnp.clip(deltas[..., 2:], -MAX_LOG_RATIO, MAX_LOG_RATIO))
    half = 0.5 * (sides * ratios)
    return jnp.concatenate([center - half, center + half], axis=-1)


def _center_and_sides(boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
    low, high = boxes[..., :2], boxes[..., 2:]
    return 0.5 * (low + high), high - low


def clip_boxes(boxes: jax.Array, sizes: jax.Array) -> jax.Array:
    """Boxes cut at the borders of their image.

    Args:
      boxes: `[B, ..., 4]` float32.
      sizes: `[B, 2]` float32, the height and width of each image.

    Returns:
      `[B, ..., 4]` float32 in 0 .. width and 0 .. height.
    """
    ends = jnp.concatenate([sizes[:, ::-1]] * 2, axis=-1)
    ends = ends.reshape(ends.shape[0], *[1] * (boxes.ndim - 2), 4)
    return jnp.clip(boxes, 0, ends)


def has_area(boxes: jax.Array) -> jax.Array:
    """Whether boxes `[..., 4]` are wider and higher than nothing: `[...]` bool."""
    return (boxes[..., 2:] > boxes[..., :2]).all(-1)


def base_anchors(
    stride: int,
    scale: float = ANCHOR_SCALE,
    octaves: int = 1,
    ratios: tuple[float, ...] = ANCHOR_RATIOS,
) -> np.ndarray:
    """The anchors around the point 0: `[A, 4]` float32, by ratio, then by size.

    Those of one size have equal areas; of the sizes, `octaves` are within a doubling.
    """
    roots = np.sqrt(np.asarray(ratios, np.float32))[:, None]
    scales = np.float32(scale * 2 ** (np.arange(octaves) / octaves))
    side = np.float32(stride)
    widths = (side * (np.float32(1) / roots) * scales).ravel()
    heights = (side * roots * scales).ravel()
    half = np.float32(0.5) * np.stack([widths, heights], axis=-1)
    return np.concatenate([-half, half], axis=-1)


def anchor_grid(
    size: tuple[int, int], stride: int, scale: float = ANCHOR_SCALE, octaves: int = 1
) -> jax.Array:
    """The anchors of a level, around the upper left corners of its cells, not clipped.

    Args:
      size: Rows and columns of the level.
      stride: Image pixels per cell along an axis.
      scale: The least anchor's side at ratio 1, in strides.
      octaves: Sizes of anchors within a doubling.

    Returns:
      `[H * W * A, 4]` float32, ordered by row, column, ratio and size.
    """
    rows, columns = (jnp.arange(n, dtype=jnp.float32) * stride for n in size)
    y, x = jnp.meshgrid(rows, columns, indexing="ij")
    corners = jnp.stack([x, y, x, y], axis=-1)[:, :, None]
    return (corners + jnp.asarray(base_anchors(stride, scale, octaves))).reshape(-1, 4)


def anchor_validity(
    size: tuple[int, int], stride: int, padded_sizes: jax.Array, num_anchors: int = 3
) -> jax.Array:
    """Whether an anchor's cell lies in its own image with its padding, rather than beyond.

    Args:
      size: Rows and columns of the level.
      stride: Image pixels per cell along an axis.
      padded_sizes: `[B, 2]` float32, heights and widths.
      num_anchors: Of a cell.

    Returns:
      `[B, H * W * A]` bool, in the order of `anchor_grid`.
    """
    cells = jnp.ceil(padded_sizes / stride)
    rows, columns = (
        jnp.arange(n, dtype=jnp.float32) < cells[:, axis, None] for axis, n in enumerate(size)
    )
    inside = rows[:, :, None, None] & columns[:, None, :, None]
    shape = (*inside.shape[:3], num_anchors)
    return jnp.broadcast_to(inside, shape).reshape(shape[0], -1)
