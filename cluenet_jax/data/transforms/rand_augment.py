"""RandAugment: random operations on single images.

Source: RandAugment (arXiv 1909.13719) in the form that image classification
uses since: strengths vary (mstd) and all grow with the magnitude (inc1).
"""

import numpy as np
from PIL import Image, ImageEnhance, ImageOps


def rand_augment(
    image: Image.Image,
    rng: np.random.Generator,
    magnitude: float,
    std: float,
    fill: tuple[int, int, int],
) -> Image.Image:
    """Applies two random operations out of fifteen, each left out half of the time.

    Args:
      image: An image of mode RGB.
      rng: Source of the draws.
      magnitude: Mean of the strength, 0 .. 10, which is normal.
      std: Standard deviation of the strength; 0 for always the same.
      fill: Color of the area that a translation, shear or rotation leaves empty.
    """
    for name in rng.choice(list(OPERATIONS), 2):
        if rng.random() < 0.5:
            level = float(np.clip(rng.normal(magnitude, std), 0, 10)) / 10
            image = OPERATIONS[name](image, level, rng, fill)
    return image


def _sign(rng: np.random.Generator) -> int:
    return 1 if rng.random() < 0.5 else -1


def _affine(coefficients):
    """A translation or shear; `coefficients(x, size)` of a signed level gives Pillow's six."""

    def apply(image, level, rng, fill):
        return image.transform(
            image.size,
            Image.Transform.AFFINE,
            coefficients(level * _sign(rng), image.size),
            resample=_random_filter(rng),
            fillcolor=fill,
        )

    return apply


def _random_filter(rng: np.random.Generator) -> Image.Resampling:
    return Image.Resampling.BILINEAR if rng.random() < 0.5 else Image.Resampling.BICUBIC


def _enhance(kind):
    """Farther from or nearer to a degenerate image, by up to nine tenths."""

    def apply(image, level, rng, fill):
        return kind(image).enhance(max(0.1, 1 + 0.9 * level * _sign(rng)))

    return apply


def _rotate(image, level, rng, fill):
    angle = 30 * level * _sign(rng)
    return image.rotate(angle, resample=_random_filter(rng), fillcolor=fill)


def _solarize_add(image, level, rng, fill):
    added = int(110 * level)
    return image.point([min(255, v + added) if v < 128 else v for v in range(256)] * 3)


# Name -> function of (image, level in 0 .. 1, rng, fill). Draws depend on the order.
OPERATIONS = {
    "autocontrast": lambda image, level, rng, fill: ImageOps.autocontrast(image),
    "equalize": lambda image, level, rng, fill: ImageOps.equalize(image),
    "invert": lambda image, level, rng, fill: ImageOps.invert(image),
    "rotate": _rotate,
    "posterize": lambda image, level, rng, fill: ImageOps.posterize(image, 4 - int(4 * level) or 1),
    "solarize": lambda image, level, rng, fill: ImageOps.solarize(image, 256 - int(256 * level)),
    "solarize_add": _solarize_add,
    "color": _enhance(ImageEnhance.Color),
    "contrast": _enhance(ImageEnhance.Contrast),
    "brightness": _enhance(ImageEnhance.Brightness),
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "shear_x": _affine(lambda x, size: (1, 0.3 * x, 0, 0, 1, 0)),
    "shear_y": _affine(lambda x, size: (1, 0, 0, 0.3 * x, 1, 0)),
    "translate_x": _affine(lambda x, size: (1, 0, 0.45 * x * size[0], 0, 1, 0)),
    "translate_y": _affine(lambda x, size: (1, 0, 0, 0, 1, 0.45 * x * size[1])),
}
