"""How much a region of an image matters for a class."""

import functools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

# Width and sigma in pixels of the blur that takes a region's details away.
BLUR = (11, 5.0)


@flax.struct.dataclass
class Importance:
    """Scores of K regions of each of B images.

    Attributes:
      classes: int32 `[B]`, the class y that the scores are about.
      probability: float32 `[B]`, p(y | image).
      drop: float32 `[B, K]` in -1 .. 1: `p(y | image) - p(y | region filled with the image's
        mean)`.
      keep: float32 `[B, K]` in 0 .. 1: `p(y | all but the region blurred)`.
    """

    classes: jax.Array
    probability: jax.Array
    drop: jax.Array
    keep: jax.Array

    @property
    def score(self) -> jax.Array:
        """float32 `[B, K]` in -0.5 .. 1, the mean of `drop` and `keep`."""
        return (self.drop + self.keep) / 2


def importance(
    model: nn.Module,
    variables: dict,
    images: jax.Array,
    regions: jax.Array,
    classes: jax.Array | None = None,
    num_regions: int | None = None,
) -> Importance:
    """Scores every region of every image, in one forward pass of `B (2 K + 1)` images.

    Args:
      images: `[B, H, W, 3]` normalised.
      regions: `[B, H, W]` integers in 0 .. K-1, such as `decision_map` gives.
      classes: `[B]` integers, for example the true ones; the predicted ones if None.
      num_regions: K; one more than the largest number in `regions` if None.

    Returns:
      The scores. A region without pixels has drop 0.

    Source: CLUENet, importance of a region (see docs/maps.md).
    """
    if num_regions is None:
        num_regions = int(np.max(regions)) + 1
    inside = np.asarray(regions)[None] == np.arange(num_regions)[:, None, None, None]
    return importance_of_masks(model, variables, images, inside, classes)


@functools.partial(jax.jit, static_argnums=0)
def importance_of_masks(
    model: nn.Module,
    variables: dict,
    images: jax.Array,
    inside: jax.Array,
    classes: jax.Array | None = None,
) -> Importance:
    """As `importance`, of any K masks, bool `[K, B, H, W]`, which may overlap."""
    count = len(inside)
    dropped = jnp.where(inside[..., None], mean_fill(images), images)
    kept = jnp.where(inside[..., None], images, blur(images))
    variants = jnp.concatenate([images[None], dropped, kept])
    logits = model.apply(variables, variants.reshape(-1, *images.shape[1:]))
    probabilities = jax.nn.softmax(logits).reshape(*variants.shape[:2], -1)
    if classes is None:
        classes = jnp.argmax(probabilities[0], axis=-1)
    classes = classes.astype(jnp.int32)
    chosen = jnp.take_along_axis(probabilities, classes[None, :, None], axis=2)[..., 0]
    whole, dropped, kept = chosen[0], chosen[1 : 1 + count], chosen[1 + count :]
    return Importance(classes, whole, (whole - dropped).T, kept.T)


def mean_fill(images: jax.Array) -> jax.Array:
    """`[B, H, W, C]`, each image wholly of its mean colour."""
    return jnp.broadcast_to(images.mean(axis=(1, 2), keepdims=True), images.shape)


def blur(images: jax.Array) -> jax.Array:
    """Gaussian blur of `BLUR`, reflected at the borders; `[B, H, W, C]` to the same."""
    width, sigma = BLUR
    half = width // 2
    offsets = np.arange(-half, half + 1)
    kernel = np.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).astype(np.float32)
    for axis in (1, 2):
        size = images.shape[axis]
        edges = [(0, 0)] * 4
        edges[axis] = (half, half)
        padded = jnp.pad(images, edges, mode="reflect")
        parts = [jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(width)]
        images = sum(weight * part for weight, part in zip(kernel, parts, strict=True))
    return images
