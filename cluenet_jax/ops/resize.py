"""Bilinear and nearest resizing of maps, as PyTorch's, made of products and repeats.

Both are separable, so an axis is resized after the other. A matrix per axis needs no gather, and
its gradient no scatter; the batch stays an axis of its own.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from cluenet_jax.ops.one_hot import select


def resize_bilinear(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Resizes maps bilinearly.

    The new pixel i of an axis lies at `max((i + 1/2) in / out - 1/2, 0)` and mixes the two pixels
    around it, as `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)` does:
    shrinking does not smooth before.

    Args:
      x: `[B, H, W, C]`, floating.
      size: Rows and columns of the result, (h, w), each at least 1.

    Returns:
      `[B, h, w, C]` of the type of `x`, mixed in float32.
    """
    return _resize(x, size, _bilinear_matrix)


def resize_nearest(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Resizes maps by repeating or leaving out pixels.

    The new pixel i of an axis is the pixel `floor(i in / out)`, in float32, as
    `torch.nn.functional.interpolate(mode="nearest")` takes it; `jax.image.resize` differs at odd
    sizes.

    Args:
      x: `[B, H, W, C]`, floating.
      size: Rows and columns of the result, (h, w), each at least 1.

    Returns:
      `[B, h, w, C]` of the type of `x`, its values unchanged.
    """
    for axis, new_size in ((1, size[0]), (2, size[1])):
        index = _nearest_index(x.shape[axis], new_size)
        factor = -(-new_size // x.shape[axis])
        # So are all sizes of a pyramid, whose levels are rounded-up halves.
        if (index == np.arange(new_size) // factor).all():
            x = jnp.repeat(x, factor, axis)
            x = jax.lax.slice_in_dim(x, 0, new_size, axis=axis)
    return _resize(x, size, _nearest_matrix)


def _resize(
    x: jax.Array, size: tuple[int, int], matrix: Callable[[int, int], np.ndarray]
) -> jax.Array:
    out = x
    if x.shape[1] != size[0]:
        out = select("oh,bhwc->bowc", matrix(x.shape[1], size[0]), out)
    if x.shape[2] != size[1]:
        out = select("ow,bhwc->bhoc", matrix(x.shape[2], size[1]), out)
    return out.astype(x.dtype)


@functools.cache
def _bilinear_matrix(size: int, new_size: int) -> np.ndarray:
    """`[new_size, size]` weights; positions in float32, as PyTorch computes them."""
    half, scale = np.float32(0.5), np.float32(size) / np.float32(new_size)
    position = (np.arange(new_size, dtype=np.float32) + half) * scale - half
    position = np.maximum(position, np.float32(0))
    before = np.minimum(position.astype(np.int32), size - 1)
    after, fraction = np.minimum(before + 1, size - 1), position - before
    rows, matrix = np.arange(new_size), np.zeros((new_size, size), np.float32)
    matrix[rows, before] = 1 - fraction
    matrix[rows, after] += fraction
    return matrix


def _nearest_index(size: int, new_size: int) -> np.ndarray:
    scale = np.float32(size) / np.float32(new_size)
    index = np.floor(np.arange(new_size, dtype=np.float32) * scale).astype(np.int32)
    return np.minimum(index, size - 1)


@functools.cache
def _nearest_matrix(size: int, new_size: int) -> np.ndarray:
    """`[new_size, size]`, one-hot rows."""
    return np.eye(size, dtype=np.float32)[_nearest_index(size, new_size)]
