"""What heads of detection are given besides levels: objects in slots, and the images' sizes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

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
