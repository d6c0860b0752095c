"""Resizing and cropping of single images."""

import math

import numpy as np
from PIL import Image

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
INTERPOLATIONS = tuple(_FILTERS)


def resize(image: Image.Image, size: int, interpolation: str) -> Image.Image:
    """Resizes to a square of `size` pixels; returns an image of that size unchanged."""
    if image.size == (size, size):
        return image
    return image.resize((size, size), _FILTERS[interpolation])


def resize_and_center_crop(
    image: Image.Image, shorter: int, size: int, interpolation: str
) -> Image.Image:
    """Resizes the shorter side to `shorter`, then crops the central square of `size`."""
    scale = shorter / min(image.size)
    width, height = (max(shorter, int(side * scale)) for side in image.size)
    image = image.resize((width, height), _FILTERS[interpolation])
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def random_resized_crop(
    image: Image.Image,
    size: int,
    rng: np.random.Generator,
    area: tuple[float, float] = (0.08, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
    interpolation: str = "bilinear",
) -> Image.Image:
    """Crops a random rectangle and resizes it to a square.

    Args:
      image: An image of any size.
      size: Side of the result, in pixels.
      rng: Source of the draws.
      area: Bounds of the rectangle's fraction of the image, uniform.
      aspect: Bounds of its width over height, log-uniform.
      interpolation: One of `INTERPOLATIONS`.

    Source: Inception's crop: ten tries, then the largest central rectangle
    within the aspect bounds.
    """
    width, height = image.size
    for _ in range(10):
        target = width * height * rng.uniform(*area)
        ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        w, h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.integers(width - w + 1), rng.integers(height - h + 1)
            break
    else:
        w = min(width, round(height * aspect[1]))
        h = min(height, round(width / aspect[0]))
        left, top = (width - w) // 2, (height - h) // 2
    box = (int(left), int(top), int(left) + w, int(top) + h)
    return image.resize((size, size), _FILTERS[interpolation], box=box)
