"""What heads of detection are given besides levels: objects in slots, and the images' sizes."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cluenet_jax import ops

# Sides of published batches are padded to multiples of this.
_PADDING = 32


class Truths(NamedTuple):
    """The objects of images, in M slots, at least one.

    Attributes:
      boxes: `[B, M, 4]` float32 in pixels of the image.
      labels: `[B, M]` int32 in 0 .. K-1.
      valid: `[B, M]` bool, whether the slot is in use.
      bitmaps: `[B, M, H, W / 8]` uint8 of the canvas, as for `ops.mask_targets`, or None.
    """

    boxes: jax.Array
    labels: jax.Array
    valid: jax.Array
    bitmaps: jax.Array | None = None


def sizes_or_canvas(
    levels: tuple[jax.Array, ...], stride: int, sizes: jax.Array | None
) -> jax.Array:
    """`[B, 2]` float32: given heights and widths, or those of the whole canvas."""
    if sizes is not None:
        return jnp.asarray(sizes, jnp.float32)
    batch, rows, columns, _ = levels[0].shape
    canvas = jnp.asarray([rows * stride, columns * stride], jnp.float32)
    return jnp.broadcast_to(canvas, (batch, 2))


def padded(sizes: jax.Array, given: jax.Array | None) -> jax.Array:
    """`[B, 2]` float32: given heights and widths with padding, or those of published batches."""
    if given is not None:
        return jnp.asarray(given, jnp.float32)
    return jnp.ceil(sizes / _PADDING) * _PADDING


def match_anchors(
    pyramid: Sequence[jax.Array],
    strides: Sequence[int],
    anchors: Sequence[jax.Array],
    truths: Truths,
    padded_sizes: jax.Array,
    thresholds: ops.Thresholds,
) -> jax.Array:
    """`[B, N]` int32, as `ops.match_boxes`; anchors beyond `padded_sizes` `[B, 2]` are not valid.

    Args:
      pyramid: Levels `[B, H_s, W_s, C]`.
      strides, anchors: Of each level, its stride and its anchors `[N_s, 4]`.
      truths: The objects.
      padded_sizes: Heights and widths with padding.
      thresholds: Of the matching.
    """
    valid = []
    for level, stride, own in zip(pyramid, strides, anchors, strict=True):
        size = level.shape[1:3]
        valid.append(
            ops.anchor_validity(size, stride, padded_sizes, len(own) // (size[0] * size[1]))
        )
    return ops.match_boxes(
        jnp.concatenate(anchors),
        truths.boxes,
        jnp.concatenate(valid, axis=1),
        truths.valid,
        thresholds,
    )
