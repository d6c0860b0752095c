"""Random changes of the colors of single images: Pillow images, or arrays of pixels."""

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


def photometric_distortion(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Changes brightness, contrast, saturation and hue, each with probability one half.

    Brightness by adding -32 .. 32, contrast and saturation by factors 0.5 .. 1.5, the hue by up to
    36 degrees either way; contrast comes last or, with probability one half, before the saturation.

    The reference changes saturation and hue in OpenCV's HSV, whose hues are steps of 2 degrees and
    which is left between the two; here both are changed at once in Pillow's, with steps of
    1.4 degrees. For the same draws values differ by rounding: by 1 level on average, rarely by more
    than 5.

    Args:
      pixels: uint8 `[H, W, 3]`, RGB.
      rng: Source of the draws.

    Returns:
      uint8 `[H, W, 3]`.
    """
    if rng.random() < 0.5:
        pixels = _linear(pixels, 1.0, rng.uniform(-32, 32))
    contrast = rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1.0
    contrast_first = rng.random() < 0.5
    if contrast_first:
        pixels = _linear(pixels, contrast, 0.0)
    saturation = rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1.0
    # OpenCV's half degrees.
    hue = int(rng.integers(-18, 18)) if rng.random() < 0.5 else 0
    pixels = shift_hue(pixels, saturation, hue / 180)
    return pixels if contrast_first else _linear(pixels, contrast, 0.0)


def shift_hue(pixels: np.ndarray, saturation: float, hue: float) -> np.ndarray:
    """Multiplies the saturation and turns the hue by a fraction of the color circle.

    Args:
      pixels: uint8 `[H, W, 3]`, RGB.

    Returns:
      uint8 `[H, W, 3]`.
    """
    if saturation == 1 and hue == 0:
        return pixels
    hsv = np.array(Image.fromarray(pixels).convert("HSV"))
    # The circle has 256 steps; unsigned bytes wrap around it.
    hsv[..., 0] += np.uint8(round(hue * 256) % 256)
    hsv[..., 1] = _table(saturation, 0.0)[hsv[..., 1]]
    return np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))


def _linear(pixels: np.ndarray, factor: float, shift: float) -> np.ndarray:
    return pixels if (factor, shift) == (1, 0) else _table(factor, shift)[pixels]


def _table(factor: float, shift: float) -> np.ndarray:
    """What each value becomes: clipped, and its fraction dropped, as in the reference."""
    return (np.arange(256) * factor + shift).clip(0, 255).astype(np.uint8)


def _rotate_hue(image: Image.Image, fraction: float) -> Image.Image:
    hsv = np.array(image.convert("HSV"))
    # The circle has 256 steps; unsigned bytes wrap around it.
    hsv[..., 0] += np.uint8(round(fraction * 255) % 256)
    return Image.fromarray(hsv, "HSV").convert("RGB")
