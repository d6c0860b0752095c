"""Partitions of images that know no model, to compare a model's with: grids and superpixels."""

import math

import numpy as np

from cluenet_jax.errors import UserError


def grid_partition(shape: tuple[int, int], count: int) -> np.ndarray:
    """Rectangles as nearly square as possible.

    Args:
      shape: Height and width.
      count: Number of rectangles, about: a number of rows times a number of columns, the nearest
        to it of those whose rectangles are at most twice as long as wide (where there are such).

    Returns:
      int32 `[H, W]`, numbers from 0 in row-major order.
    """
    height, width = shape

    def cost(rows: int) -> tuple[float, float]:
        columns = min(width, max(1, round(count / rows)))
        stretch = abs(math.log2(height / rows * columns / width))
        return abs(rows * columns - count) + 1000 * max(0.0, stretch - 1), stretch

    rows = min(range(1, min(height, count) + 1), key=cost)
    columns = min(width, max(1, round(count / rows)))
    row = np.arange(height) * rows // height
    column = np.arange(width) * columns // width
    return (row[:, None] * columns + column).astype(np.int32)


def slic_partition(image: np.ndarray, count: int) -> np.ndarray:
    """SLIC superpixels by scikit-image.

    Args:
      image: uint8 `[H, W, 3]`, RGB.
      count: Number of superpixels, about.

    Returns:
      int32 `[H, W]`, numbers from 0.

    Raises:
      UserError: scikit-image is not installed; says how to install it.

    Source: R. Achanta et al., SLIC Superpixels Compared to State-of-the-Art Superpixel Methods,
    2012.
    """
    try:
        from skimage.segmentation import slic
    except ImportError as error:
        raise UserError(
            "SLIC superpixels need scikit-image: pip install 'cluenet-jax[superpixels]'."
        ) from error
    return slic(image, n_segments=count, start_label=0).astype(np.int32)
