"""Augmentation of single pictures on the host, while they are decoded.

Pillow images of mode RGB in and out; random draws from a NumPy generator.
"""

import math

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
INTERPOLATIONS = tuple(_FILTERS)


def resize(image: Image.Image, size: int, interpolation: str) -> Image.Image:
    """Resizes to a square of `size` pixels; leaves a picture of that size as it is."""
    if image.size == (size, size):
        return image
    return image.resize((size, size), _FILTERS[interpolation])


def resize_and_center_crop(
    image: Image.Image, shorter: int, size: int, interpolation: str
) -> Image.Image:
    """Resizes the shorter side to `shorter`, then cuts the central square of `size`."""
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
    """Cuts a random rectangle and resizes it to a square.

    Args:
      image: Any size.
      size: Side of the result, pixels.
      rng: Where the draws come from.
      area: Bounds of the rectangle's share of the picture, uniform.
      aspect: Bounds of its width over height, log-uniform.
      interpolation: "bilinear", "bicubic" or "lanczos".

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


def color_jitter(
    image: Image.Image,
    rng: np.random.Generator,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
) -> Image.Image:
    """Changes brightness, contrast, saturation and hue, in random order.

    The first three are scaled by factors uniform in `1 - x .. 1 + x`, the hue is
    turned by a uniform share in `-hue .. hue` of the colour circle (`hue` at
    most 0.5). A strength of 0 leaves its property alone.
    """
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    changes = [
        lambda im, kind=kind, x=x: kind(im).enhance(rng.uniform(max(0, 1 - x), 1 + x))
        for kind, x in zip(enhancers, (brightness, contrast, saturation), strict=True)
        if x
    ]
    if hue:
        changes.append(lambda im: _turn_hue(im, rng.uniform(-hue, hue)))
    for i in rng.permutation(len(changes)):
        image = changes[i](image)
    return image


def _turn_hue(image: Image.Image, share: float) -> Image.Image:
    hsv = np.array(image.convert("HSV"))
    # The circle has 256 steps; unsigned bytes wrap round it.
    hsv[..., 0] += np.uint8(round(share * 255) % 256)
    return Image.fromarray(hsv, "HSV").convert("RGB")


def rand_augment(
    image: Image.Image,
    rng: np.random.Generator,
    magnitude: float,
    std: float,
    fill: tuple[int, int, int],
) -> Image.Image:
    """Two random changes out of fifteen, each left out half of the time.

    Args:
      image: Mode RGB.
      rng: Where the draws come from.
      magnitude: Strength, 0 .. 10, of which a normal of `std` is drawn each time.
      std: 0 for always the same strength.
      fill: Colour of what a shift or turn leaves bare.

    Source: RandAugment (arXiv 1909.13719) in the form that image classification
    uses since: strengths vary (mstd) and all grow with the magnitude (inc1).
    """
    for name in rng.choice(list(_CHANGES), 2):
        if rng.random() < 0.5:
            level = float(np.clip(rng.normal(magnitude, std), 0, 10)) / 10
            image = _CHANGES[name](image, level, rng, fill)
    return image


def _sign(rng: np.random.Generator) -> int:
    return 1 if rng.random() < 0.5 else -1


def _affine(coefficients):
    """A shift or shear; `coefficients(x, size)` of a signed level gives the six of Pillow."""

    def change(image, level, rng, fill):
        return image.transform(
            image.size,
            Image.Transform.AFFINE,
            coefficients(level * _sign(rng), image.size),
            resample=_random_filter(rng),
            fillcolor=fill,
        )

    return change


def _random_filter(rng: np.random.Generator) -> Image.Resampling:
    return Image.Resampling.BILINEAR if rng.random() < 0.5 else Image.Resampling.BICUBIC


def _enhance(kind):
    """Farther from or nearer to a degenerate picture, by up to nine tenths."""

    def change(image, level, rng, fill):
        return kind(image).enhance(max(0.1, 1 + 0.9 * level * _sign(rng)))

    return change


def _rotate(image, level, rng, fill):
    angle = 30 * level * _sign(rng)
    return image.rotate(angle, resample=_random_filter(rng), fillcolor=fill)


def _solarize_add(image, level, rng, fill):
    added = int(110 * level)
    return image.point([min(255, v + added) if v < 128 else v for v in range(256)] * 3)


_CHANGES = {
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
