"""RoIAlign (arXiv 1703.06870): a map's values in the bins of a box, as two products per box.

As mmcv's with `aligned=True` and `sampling_ratio=0`: a bin averages `ceil(side / bins)` samples
along each axis, each bilinear between the centers of four pixels. Both the average and the
interpolation are separable, so a box's result is

    A_y F A_x^T

with a small matrix of weights per axis. That needs no gather, and its gradient no scatter.
"""

import jax
import jax.numpy as jnp

from cluenet_jax.ops.boxes import clip_boxes
from cluenet_jax.ops.chunks import in_chunks
from cluenet_jax.ops.one_hot import select
from cluenet_jax.ops.ranking import take

# Samples of a bin lie over half a pixel apart, so that at most four of them reach a pixel; one
# more because the first is found by a rounded division.
_REACHING_SAMPLES = 5
# Boxes whose products `[boxes, bins, W, C]` are in memory at a time.
_CHUNK = 32
# The same where every box has a map of its own.
_BITMAP_CHUNK = 8
# Pixels of a bitmap's byte.
_BITS = 8


def roi_align(
    levels: tuple[jax.Array, ...],
    boxes: jax.Array,
    strides: tuple[int, ...],
    bins: int,
    finest_side: float = 56.0,
) -> jax.Array:
    """The features of boxes, each from the level that fits its size.

    Args:
      levels: `[B, H_s, W_s, C]` of each level, floating, finest first.
      boxes: `[B, R, 4]` float32 in pixels of the image; no gradient reaches them.
      strides: Image pixels per cell of each level, along an axis.
      bins: Rows and columns of the result.
      finest_side: Of `box_levels`.

    Returns:
      `[B, R, bins, bins, C]` of the type of the levels; zeros for boxes without sides.
    """
    boxes = jax.lax.stop_gradient(boxes)

    def align(boxes: jax.Array) -> jax.Array:
        own = box_levels(boxes, len(levels), finest_side)
        parts = [
            _align(level, boxes / stride, bins, own == i)
            for i, (level, stride) in enumerate(zip(levels, strides, strict=True))
        ]
        return sum(parts[1:], start=parts[0]).astype(levels[0].dtype)

    return in_chunks(align, _CHUNK, boxes)


def box_levels(boxes: jax.Array, num_levels: int, finest_side: float = 56.0) -> jax.Array:
    """The level that a box's features come from, by the root of its area.

    Args:
      boxes: `[..., 4]` float32.
      num_levels: How many there are.
      finest_side: The first level takes boxes below twice this side, each further one those below
        twice the side before.

    Returns:
      `[...]` int32 in 0 .. num_levels-1.
    """
    sides = boxes[..., 2:] - boxes[..., :2]
    ratio = jnp.sqrt(sides[..., 0] * sides[..., 1]) / finest_side + 1e-6
    # The floor of a logarithm, clamped, without its rounding.
    limits = 2.0 ** jnp.arange(1, num_levels, dtype=jnp.float32)
    return (ratio[..., None] >= limits).sum(-1, dtype=jnp.int32)


def mask_targets(bitmaps: jax.Array, boxes: jax.Array, index: jax.Array, bins: int) -> jax.Array:
    """How much of each bin of a box its bitmap covers; a mask's target is where it is >= 0.5.

    Args:
      bitmaps: `[B, M, H, W / 8]` uint8 at the size of the image, eight pixels of a row in a byte,
        the first in its highest bit: `numpy.packbits(bitmaps, axis=-1)`.
      boxes: `[B, R, 4]` float32 in pixels of the image; clipped at the borders of the bitmaps.
      index: `[B, R]` int32, the bitmap of each box.
      bins: Rows and columns of the result.

    Returns:
      `[B, R, bins, bins]` float32 in 0 .. 1.
    """
    batch, _, height, num_bytes = bitmaps.shape
    size = height, _BITS * num_bytes
    boxes = clip_boxes(boxes, jnp.broadcast_to(jnp.asarray(size, jnp.float32), (batch, 2)))
    shifts = jnp.arange(_BITS - 1, -1, -1, dtype=jnp.uint8)[:, None]

    def align(boxes: jax.Array, index: jax.Array) -> jax.Array:
        rows, columns = _weights(boxes, size, bins)
        # Pixels stay apart by their bits: in one row they would have to be moved.
        columns = columns.reshape(*columns.shape[:-1], num_bytes, _BITS)
        own = (take(bitmaps, index)[..., None, :] >> shifts) & 1
        lines = select("brph,brhkw->brpkw", rows, own.astype(jnp.float32))
        return select("brqwk,brpkw->brpq", columns, lines)

    return in_chunks(align, _BITMAP_CHUNK, boxes, index)


def _align(level: jax.Array, boxes: jax.Array, bins: int, use: jax.Array) -> jax.Array:
    """float32 `[B, R, bins, bins, C]` of boxes in pixels of the level, zeros where not in use."""
    rows, columns = _weights(boxes, level.shape[1:3], bins)
    rows = jnp.where(use[..., None, None], rows, 0)
    lines = select("brph,bhwc->brpwc", rows, level)
    return select("brqw,brpwc->brpqc", columns, lines)


def _weights(boxes: jax.Array, size: tuple[int, int], bins: int) -> tuple[jax.Array, jax.Array]:
    """The matrices `[..., bins, H]` and `[..., bins, W]` of boxes in pixels of the map."""
    rows = axis_weights(boxes[..., 1], boxes[..., 3], size[0], bins)
    return rows, axis_weights(boxes[..., 0], boxes[..., 2], size[1], bins)


def axis_weights(start: jax.Array, end: jax.Array, size: int, bins: int) -> jax.Array:
    """The weight of each pixel of an axis in each bin of an interval.

    A sample at y counts for nothing beyond -1 .. size; else it is moved into 0 .. size-1 and
    divides its weight between the two pixels around it.

    Args:
      start: `[...]` float32, in pixels of the map; pixel i reaches from i to i + 1.
      end: `[...]` float32, not before the start.
      size: Pixels of the axis.
      bins: Of the interval, equally long.

    Returns:
      `[..., bins, size]` float32.
    """
    start, end = (x[..., None, None] - 0.5 for x in (start, end))
    length = (end - start) / bins
    count = jnp.ceil(length)
    step = length / jnp.maximum(count, 1)
    bin_start = start + jnp.arange(bins, dtype=jnp.float32)[:, None] * length
    pixels = jnp.arange(size, dtype=jnp.float32)
    # Only samples less than a pixel away have a weight: those from here on, and not many.
    first = jnp.floor((pixels - 1 - bin_start) / jnp.maximum(step, 1e-20) - 0.5)
    first = jnp.clip(first, 0, count)
    total = jnp.zeros(first.shape, jnp.float32)
    for i in range(_REACHING_SAMPLES):
        y = bin_start + (first + i + 0.5) * step
        counted = (first + i < count) & (y >= -1) & (y <= size)
        distance = jnp.abs(jnp.clip(y, 0, size - 1) - pixels)
        total += jnp.where(counted, jnp.maximum(1 - distance, 0), 0)
    return total / jnp.maximum(count, 1)
