"""A function of images in windows that slide over them, for images larger than in training."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from cluenet_jax.ops.resize import resize_bilinear


def in_windows(
    function: Callable[[jax.Array], jax.Array], images: jax.Array, side: int, step: int
) -> jax.Array:
    """The mean of what a function says of each pixel in the windows around it.

    The last window of an axis is moved back to the border, as mmsegmentation does; a side that
    is shorter than a window is one window.

    Args:
      function: From `[B, h, w, C]` to maps `[B, h', w', K]`, which are resized to the window.
      images: `[B, H, W, C]`.
      side: Of the square windows, pixels.
      step: From one window to the next, 1 .. side.

    Returns:
      `[B, H, W, K]` float32.
    """
    batch, height, width, channels = images.shape
    window = (min(side, height), min(side, width))
    starts = np.stack(
        np.meshgrid(_starts(height, side, step), _starts(width, side, step), indexing="ij"), -1
    ).reshape(-1, 2)
    counts = np.zeros((height, width, 1), np.float32)
    for y, x in starts:
        counts[y : y + window[0], x : x + window[1]] += 1

    def add(total: jax.Array, start: jax.Array) -> tuple[jax.Array, None]:
        corner = (0, start[0], start[1], 0)
        part = jax.lax.dynamic_slice(images, corner, (batch, *window, channels))
        maps = resize_bilinear(function(part), window).astype(jnp.float32)
        before = jax.lax.dynamic_slice(total, corner, (batch, *window, total.shape[-1]))
        return jax.lax.dynamic_update_slice(total, before + maps, corner), None

    like = jax.eval_shape(function, jax.ShapeDtypeStruct((batch, *window, channels), images.dtype))
    zeros = jnp.zeros((batch, height, width, like.shape[-1]), jnp.float32)
    return jax.lax.scan(add, zeros, jnp.asarray(starts))[0] / counts


def _starts(length: int, side: int, step: int) -> list[int]:
    count = max(-(-(length - side) // step), 0) + 1
    return [max(min(i * step, length - side), 0) for i in range(count)]
