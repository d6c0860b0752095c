"""Confusion matrices of images: counts of pixels by true class and prediction."""

import jax
import jax.numpy as jnp


def confusion_matrix(
    prediction: jax.Array, label: jax.Array, num_classes: int, ignore: int = 255
) -> jax.Array:
    """Counts the pixels of each image, exactly.

    Args:
      prediction: `[B, H, W]` integers in 0 .. num_classes-1.
      label: `[B, H, W]` integers; those that are `ignore` or no class are not counted.
      num_classes: C.
      ignore: A label that is not counted, even if it is below `num_classes`.

    Returns:
      `[B, C, C]` int32, the true class first.
    """
    truth = true_classes(label, num_classes, ignore)
    # Negative indices count from the end, those above it are dropped.
    cells = jnp.where(truth < 0, num_classes**2, truth * num_classes + flat_pixels(prediction))

    def count_image(cells: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(jnp.ones_like(cells), cells, num_classes**2)

    return jax.vmap(count_image)(cells).reshape(-1, num_classes, num_classes)


def true_classes(label: jax.Array, num_classes: int, ignore: int) -> jax.Array:
    """int32 `[B, N]`: the labels, -1 where nothing is counted."""
    label = flat_pixels(label)
    counted = (label != ignore) & (label >= 0) & (label < num_classes)
    return jnp.where(counted, label, -1)


def flat_pixels(image: jax.Array) -> jax.Array:
    """`[B, H, W]` integers to int32 `[B, N]`."""
    return image.reshape(len(image), -1).astype(jnp.int32)
