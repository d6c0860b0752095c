"""Augmentation of whole batches on the device, inside the jitted step.

The draws for an image depend only on the key and its place in the batch, so
splitting the batch over devices changes nothing.
"""

import jax
import jax.numpy as jnp
import ml_collections

# Rectangles tried before an image is left whole.
_TRIES = 10


def normalize(images: jax.Array, mean: tuple, std: tuple) -> jax.Array:
    """`(image / 255 - mean) / std`: uint8 `[B, H, W, 3]` to float32 of the same shape."""
    scaled = images.astype(jnp.float32) / 255
    return (scaled - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)


def random_crop(key: jax.Array, images: jax.Array, padding: int) -> jax.Array:
    """Pads with black and cuts a window of the old size at a random place.

    Args:
      key: For one offset per image, uniform in 0 .. 2 * padding on each axis.
      images: `[B, H, W, C]`.
      padding: Pixels on each side.
    """
    batch, height, width, channels = images.shape
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    offsets = jax.random.randint(key, (batch, 2), 0, 2 * padding + 1)

    def cut(image: jax.Array, offset: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (*offset, 0), (height, width, channels))

    return jax.vmap(cut)(padded, offsets)


def random_mirror(key: jax.Array, images: jax.Array) -> jax.Array:
    """Turns left and right round in half of the images, `[B, H, W, C]`."""
    turned = jax.random.bernoulli(key, 0.5, (images.shape[0], 1, 1, 1))
    return jnp.where(turned, images[:, :, ::-1], images)


def random_erase(
    key: jax.Array,
    images: jax.Array,
    prob: float,
    area: tuple[float, float],
    aspect: tuple[float, float],
    mode: str,
) -> jax.Array:
    """Erases one random rectangle in a share of the images.

    Args:
      key: For all draws.
      images: `[B, H, W, C]`, normalised float.
      prob: Share of the images, 0 .. 1.
      area: Bounds of the rectangle's share of the image, uniform.
      aspect: Bounds of its height over width, log-uniform.
      mode: What is put there: "zeros" or "noise" (normal, per pixel and channel).

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
    first = jnp.argmax(fits, axis=1)[:, None]
    h, w = (jnp.take_along_axis(side, first, axis=1) for side in (h, w))
    place = jax.random.uniform(keys[2], (batch, 2))
    top = jnp.floor(place[:, :1] * (height - h + 1))
    left = jnp.floor(place[:, 1:] * (width - w + 1))

    rows, columns = jnp.arange(height)[None], jnp.arange(width)[None]
    in_rows = (rows >= top) & (rows < top + h)
    in_columns = (columns >= left) & (columns < left + w)
    chosen = jax.random.bernoulli(keys[3], prob, (batch,)) & fits.any(axis=1)
    inside = in_rows[:, :, None] & in_columns[:, None, :] & chosen[:, None, None]
    filling = jnp.zeros_like(images)
    if mode == "noise":
        filling = jax.random.normal(keys[4], images.shape, images.dtype)
    return jnp.where(inside[..., None], filling, images)


def augment_on_device(
    key: jax.Array,
    images: jax.Array,
    augment: ml_collections.ConfigDict,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> jax.Array:
    """Crop, mirror, normalise and erase, as `config.data.augment` says.

    Args:
      key: For all draws.
      images: uint8 `[B, H, W, 3]`.
      augment: `config.data.augment`.
      mean, std: Of RGB, in 0 .. 1.

    Returns:
      float32 `[B, H, W, 3]`, normalised.
    """
    crop_key, mirror_key, erase_key = jax.random.split(key, 3)
    if augment.crop_padding:
        images = random_crop(crop_key, images, augment.crop_padding)
    if augment.mirror:
        images = random_mirror(mirror_key, images)
    images = normalize(images, mean, std)
    if augment.erase_prob:
        images = random_erase(
            erase_key,
            images,
            augment.erase_prob,
            augment.erase_area,
            augment.erase_aspect,
            augment.erase_mode,
        )
    return images
