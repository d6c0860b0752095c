"""Random changes of the colors of single images."""

import numpy as np
from PIL import Image, ImageEnhance


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
    rotated by a uniform fraction in `-hue .. hue` of the color circle (`hue` at
    most 0.5). A strength of 0 leaves its property unchanged.
    """
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    changes = [
        lambda im, kind=kind, x=x: kind(im).enhance(rng.uniform(max(0, 1 - x), 1 + x))
        for kind, x in zip(enhancers, (brightness, contrast, saturation), strict=True)
        if x
    ]
    if hue:
        changes.append(lambda im: _rotate_hue(im, rng.uniform(-hue, hue)))
    for i in rng.permutation(len(changes)):
        image = changes[i](image)
    return image


def _rotate_hue(image: Image.Image, fraction: float) -> Image.Image:
    hsv = np.array(image.convert("HSV"))
    # The circle has 256 steps; unsigned bytes wrap around it.
    hsv[..., 0] += np.uint8(round(fraction * 255) % 256)
    return Image.fromarray(hsv, "HSV").convert("RGB")
