"""Partitions of images by a model, and by grids and superpixels to compare them with."""

import importlib.util
import math
from collections.abc import Sequence

import numpy as np

from cluenet_jax.errors import UserError
from cluenet_jax.explain.maps import to_image_grid


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


def partitions_to_compare(
    image: np.ndarray, clusters: Sequence[np.ndarray], fields: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """The clusters of every stage, and a grid and superpixels of the same number.

    Args:
      image: uint8 `[H, W, 3]`, RGB.
      clusters: For each stage int32 `[G, H_s, W_s]`, of `explain.cluster_maps`.
      fields: For each stage int32 `[H, W]`, of `explain.receptive_fields`.

    Returns:
      By name, "stage 1" to "stage 4": int32 `[G, H, W]`. "stage 1, grid" and "stage 1, SLIC" and
      so on: int32 `[H, W]`, of about as many parts as a map of the stage has on average; no SLIC
      where scikit-image is not installed.
    """
    has_slic = importlib.util.find_spec("skimage") is not None
    partitions = {}
    for stage, (index, field) in enumerate(zip(clusters, fields, strict=True), 1):
        maps = to_image_grid(field[None], index[None])[0]
        count = max(1, round(np.mean([len(np.unique(regions)) for regions in maps])))
        partitions[f"stage {stage}"] = maps
        partitions[f"stage {stage}, grid"] = grid_partition(image.shape[:2], count)
        if has_slic:
            partitions[f"stage {stage}, SLIC"] = slic_partition(image, count)
    return partitions
