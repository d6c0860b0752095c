"""Mixup and cutmix of a batch on the device, with the soft targets that go with them."""

import jax
import jax.numpy as jnp


def soft_targets(labels: jax.Array, num_classes: int, smoothing: float) -> jax.Array:
    """One-hot targets with a share spread over all classes: `[B]` to `[B, num_classes]`."""
    return (1 - smoothing) * jax.nn.one_hot(labels, num_classes) + smoothing / num_classes


def mix(
    key: jax.Array, images: jax.Array, targets: jax.Array, mixup: float, cutmix: float
) -> tuple[jax.Array, jax.Array]:
    """Mixes each image with the one as far from the batch's other end.

    Args:
      key: For the choice between the two, the share and the box, one for the batch.
      images: `[B, H, W, C]` float.
      targets: `[B, classes]`.
      mixup, cutmix: The parameters of their Beta distributions; 0 switches one
        off. With both, each batch takes one of them, evenly.

    Returns:
      Mixed images and targets of the same shapes.

    Source: mixup (arXiv 1710.09412), cutmix (arXiv 1905.04899).
    """
    if not mixup and not cutmix:
        return images, targets
    choice_key, share_key, box_key = jax.random.split(key, 3)
    use_cutmix = jax.random.bernoulli(choice_key) if mixup and cutmix else bool(cutmix)
    alpha = jnp.where(use_cutmix, cutmix, mixup)
    share = jax.random.beta(share_key, alpha, alpha)
    others = images[::-1]

    height, width = images.shape[1:3]
    inside = _random_box(box_key, height, width, 1 - share)
    # Of a box that sticks out only the part inside counts.
    share_left = jnp.where(use_cutmix, 1 - inside.mean(), share)
    cut = jnp.where(inside[None, :, :, None], others, images)
    mixed = jnp.where(use_cutmix, cut, share * images + (1 - share) * others)
    return mixed, share_left * targets + (1 - share_left) * targets[::-1]


def _random_box(key: jax.Array, height: int, width: int, area: jax.Array) -> jax.Array:
    """bool `[height, width]`: a box of a share of the area around a uniform centre, cut off."""
    side = jnp.sqrt(area)
    centre = jax.random.uniform(key, (2,)) * jnp.array([height, width])

    def covered(length: int, middle: jax.Array) -> jax.Array:
        half = jnp.floor(length * side) / 2
        places = jnp.arange(length)
        return (places >= jnp.floor(middle - half)) & (places < jnp.floor(middle + half))

    return covered(height, centre[0])[:, None] & covered(width, centre[1])[None]
