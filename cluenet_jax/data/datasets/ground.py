"""What the datasets that are drawn here have in common: a textured ground, and files in memory."""

import io

import numpy as np
from PIL import Image


def textured_ground(
    rng: np.random.Generator, size: tuple[int, int], mean: tuple[float, float]
) -> tuple[np.ndarray, float]:
    """A color with soft spots and grain, and its mean brightness.

    Args:
      rng: Source of the draws.
      size: Height and width.
      mean: Bounds of the mean of each channel, 0 .. 255.

    Returns:
      float32 `[H, W, 3]`, and a number in 0 .. 255.
    """
    height, width = size
    spots = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    soft = Image.fromarray(spots).resize((width, height), Image.Resampling.BICUBIC)
    color = rng.uniform(*mean, 3).astype(np.float32)
    grain = rng.integers(-10, 11, (height, width, 1), dtype=np.int8)
    return color + (np.asarray(soft, np.float32) - 128) * 0.25 + grain, float(color.mean())


def encode_png(pixels: np.ndarray) -> bytes:
    """uint8 `[H, W]` or `[H, W, 3]` as a file."""
    file = io.BytesIO()
    # It is decoded at once, and compressing would take longer than composing the image.
    Image.fromarray(pixels).save(file, "PNG", compress_level=0)
    return file.getvalue()
