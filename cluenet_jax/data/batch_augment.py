"""Augmentation of whole batches on the device, inside the jitted step.

The draws for an image depend only on the key and its index in the batch, so
splitting the batch over devices changes nothing.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

ERASE_MODES = ("zeros", "noise")
# Rectangles tried before an image is left whole.
_TRIES = 10
# Steps of the table of Beta distributions.
_QUANTILES = 1024


def augment_images(
    key: jax.Array,
    images: jax.Array,
    *,
    crop_padding: int,
    horizontal_flip: bool,
    erase_prob: float,
    erase_area: tuple[float, float],
    erase_aspect: tuple[float, float],
    erase_mode: str,
    normalize: Callable[[jax.Array], jax.Array],
) -> jax.Array:
    """Crops, flips, normalizes and erases, in this order.

    Args:
      key: Key of all draws.
      images: uint8 `[B, H, W, 3]`.
      crop_padding: As `padding` of `random_crop`; 0 switches it off.
      horizontal_flip: Whether half of the images are flipped.
      erase_prob, erase_area, erase_aspect, erase_mode: As in `random_erase`; an `erase_prob` of 0
        switches it off.
      normalize: `Preprocessing.normalize`.

    Returns:
      float32 `[B, H, W, 3]`, normalized.
    """
    crop_key, flip_key, erase_key = jax.random.split(key, 3)
    if crop_padding:
        images = random_crop(crop_key, images, crop_padding)
    if horizontal_flip:
        images = random_horizontal_flip(flip_key, images)
    images = normalize(images)
    if erase_prob:
        images = random_erase(erase_key, images, erase_prob, erase_area, erase_aspect, erase_mode)
    return images


def random_crop(key: jax.Array, images: jax.Array, padding: int) -> jax.Array:
    """Pads with black and crops a random window of the original size.

    Args:
      key: Key of one offset per image, uniform in 0 .. 2 * padding on each axis.
      images: `[B, H, W, C]`.
      padding: Pixels on each side.
    """
    batch, height, width, _ = images.shape
    offsets = jax.random.randint(key, (batch, 2), 0, 2 * padding + 1) - padding

    def picked(offset: jax.Array, length: int) -> jax.Array:
        # One-hot rows, zeros where the window is outside the image.
        return jax.nn.one_hot(offset[:, None] + jnp.arange(length), length)

    # Products, since TPUs slice the images one after another. They are exact: each sum has one
    # term, and the highest precision keeps it whole.
    rows, columns = picked(offsets[:, 0], height), picked(offsets[:, 1], width)
    product = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    cropped = product("bhy,byxc->bhxc", rows, images.astype(jnp.float32))
    return product("bwx,bhxc->bhwc", columns, cropped).astype(images.dtype)


def random_horizontal_flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Exchanges left and right in half of the images, `[B, H, W, C]`."""
    flipped = jax.random.bernoulli(key, 0.5, (images.shape[0], 1, 1, 1))
    return jnp.where(flipped, images[:, :, ::-1], images)


def random_erase(
    key: jax.Array,
    images: jax.Array,
    prob: float,
    area: tuple[float, float],
    aspect: tuple[float, float],
    mode: str,
) -> jax.Array:
    """Erases one random rectangle in a fraction of the images.

    Args:
      key: Key of all draws.
      images: `[B, H, W, C]`, normalized float.
      prob: Fraction of the images, 0 .. 1.
      area: Bounds of the rectangle's fraction of the image, uniform.
      aspect: Bounds of its height over width, log-uniform.
      mode: What fills it: "zeros" or "noise" (normal, per pixel and channel).

    Source: random erasing (arXiv 1708.04896); the first of ten rectangles that
    fits is taken, and if none does the image stays whole.
    """
    batch, height, width, _ = images.shape
    keys = jax.random.split(key, 5)
    tries = (batch, _TRIES)
    target = height * width * jax.random.uniform(keys[0], tries, minval=area[0], maxval=area[1])
    low, high = jnp.log(aspect[0]), jnp.log(aspect[1])
    ratio = jnp.exp(jax.random.uniform(keys[1], tries, minval=low, maxval=high))
    h, w = jnp.round(jnp.sqrt(target * ratio)), jnp.round(jnp.sqrt(target / ratio))
    fits = (h < height) & (w < width)
    first = jnp.argmax(fits, axis=1)[:, None] == jnp.arange(_TRIES)
    h, w = (jnp.sum(jnp.where(first, side, 0), axis=1, keepdims=True) for side in (h, w))
    position = jax.random.uniform(keys[2], (batch, 2))
    top = jnp.floor(position[:, :1] * (height - h + 1))
    left = jnp.floor(position[:, 1:] * (width - w + 1))

    rows, columns = jnp.arange(height)[None], jnp.arange(width)[None]
    in_rows = (rows >= top) & (rows < top + h)
    in_columns = (columns >= left) & (columns < left + w)
    chosen = jax.random.bernoulli(keys[3], prob, (batch,)) & fits.any(axis=1)
    inside = in_rows[:, :, None] & in_columns[:, None, :] & chosen[:, None, None]
    filling = jnp.zeros_like(images)
    if mode == "noise":
        filling = jax.random.normal(keys[4], images.shape, images.dtype)
    return jnp.where(inside[..., None], filling, images)


def mix(
    key: jax.Array, images: jax.Array, targets: jax.Array, mixup: float, cutmix: float
) -> tuple[jax.Array, jax.Array]:
    """Mixes the images in pairs of neighbors; without a neighbor the last stays as it is.

    Neighbors are on one device, unless it has an odd number of images. The batch is in random
    order, so they are as good as any.

    Args:
      key: Key of the choice between the two, the fraction and the box, drawn once per batch.
      images: `[B, H, W, C]` float.
      targets: `[B, classes]`.
      mixup, cutmix: Parameters of their Beta distributions; 0 switches a method
        off. With both, each batch takes either, evenly.

    Returns:
      Mixed images and targets of the same shapes.

    Source: mixup (arXiv 1710.09412), cutmix (arXiv 1905.04899).
    """
    if not mixup and not cutmix:
        return images, targets
    choice_key, fraction_key, box_key = jax.random.split(key, 3)
    use_cutmix = jax.random.bernoulli(choice_key) if mixup and cutmix else bool(cutmix)
    quantile = jax.random.uniform(fraction_key)
    fraction = jnp.where(
        use_cutmix, beta_quantile(quantile, cutmix), beta_quantile(quantile, mixup)
    )
    partners = _exchanged(images)

    height, width = images.shape[1:3]
    inside = _random_box(box_key, height, width, 1 - fraction)
    # Of a box that extends beyond the image only the part inside counts.
    own_fraction = jnp.where(use_cutmix, 1 - inside.mean(), fraction)
    pasted = jnp.where(inside[None, :, :, None], partners, images)
    mixed = jnp.where(use_cutmix, pasted, fraction * images + (1 - fraction) * partners)
    return mixed, own_fraction * targets + (1 - own_fraction) * _exchanged(targets)


def _exchanged(x: jax.Array) -> jax.Array:
    """`[B, ...]` with the first and the second exchanged, the third and the fourth, and so on."""
    paired = len(x) // 2 * 2
    pairs = x[:paired].reshape(-1, 2, *x.shape[1:])[:, ::-1]
    return jnp.concatenate([pairs.reshape(paired, *x.shape[1:]), x[paired:]])


def beta_quantile(quantile: jax.Array, alpha: float) -> jax.Array:
    """The value of Beta(alpha, alpha) below which a fraction of its values lies.

    Of a uniform number it is a draw, without the rejections of `jax.random.beta`, which are a loop
    of unknown length. Linear between 1,025 exact values; 1 for an `alpha` of 0.

    Args:
      quantile: The fraction, 0 .. 1, a scalar.
      alpha: At least 0.
    """
    if not alpha:
        return jnp.ones_like(quantile)
    steps = np.arange(_QUANTILES + 1)
    values = special.betaincinv(alpha, alpha, steps / _QUANTILES).astype(np.float32)
    return jnp.sum(jnp.maximum(0, 1 - jnp.abs(quantile * _QUANTILES - steps)) * values)


def _random_box(key: jax.Array, height: int, width: int, area: jax.Array) -> jax.Array:
    """bool `[height, width]`: a box of a fraction of the area around a uniform center, clipped."""
    side = jnp.sqrt(area)
    center = jax.random.uniform(key, (2,)) * jnp.array([height, width])

    def covered(length: int, middle: jax.Array) -> jax.Array:
        half = jnp.floor(length * side) / 2
        indices = jnp.arange(length)
        return (indices >= jnp.floor(middle - half)) & (indices < jnp.floor(middle + half))

    return covered(height, center[0])[:, None] & covered(width, center[1])[None]
