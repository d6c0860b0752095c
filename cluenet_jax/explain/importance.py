"""Importance of regions of an image for a target."""

import functools
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

# `(variables, images, targets)` to `[B]` in 0 .. 1, how sure a model is of each image's target.
# A pure function that is kept: it is compiled again for each new one.
ScoreFn = Callable[[dict, jax.Array, jax.Array], jax.Array]
# `(variables, images)` to int32 `[B]`, the target of each image that a model is surest of.
BestTargetsFn = Callable[[dict, jax.Array], jax.Array]

# Width and sigma in pixels of the blur that takes a region's details away.
BLUR = (11, 5.0)


@flax.struct.dataclass
class Importance:
    """Importance of K regions of each of B images for a target y, where p is the model's score.

    Attributes:
      targets: int32 `[B]`, y.
      image_score: float32 `[B]`, p(y | image).
      drop: float32 `[B, K]` in -1 .. 1: `p(y | image) - p(y | region filled with the image's
        mean)`.
      keep: float32 `[B, K]` in 0 .. 1: `p(y | all but the region blurred)`.
    """

    targets: jax.Array
    image_score: jax.Array
    drop: jax.Array
    keep: jax.Array

    @property
    def score(self) -> jax.Array:
        """float32 `[B, K]` in -0.5 .. 1, the mean of `drop` and `keep`."""
        return (self.drop + self.keep) / 2


@functools.cache
def class_probability(model: nn.Module) -> ScoreFn:
    """The score of a classifier: the softmax of its logits at the target."""

    @jax.jit
    def score(variables: dict, images: jax.Array, targets: jax.Array) -> jax.Array:
        probabilities = jax.nn.softmax(model.apply(variables, images))
        return jnp.take_along_axis(probabilities, targets[:, None], axis=1)[:, 0]

    return score


@functools.cache
def predicted_class(model: nn.Module) -> BestTargetsFn:
    """The best targets of a classifier: the greatest logit."""

    @jax.jit
    def best_targets(variables: dict, images: jax.Array) -> jax.Array:
        return jnp.argmax(model.apply(variables, images), axis=-1).astype(jnp.int32)

    return best_targets


def importance(
    score: ScoreFn,
    variables: dict,
    images: jax.Array,
    regions: jax.Array,
    targets: jax.Array,
    num_regions: int | None = None,
) -> Importance:
    """Importance of every region of every image, in one forward pass of `B (2 K + 1)` images.

    Args:
      score: The model's score, such as `class_probability(model)`.
      variables: The model's variables.
      images: `[B, H, W, 3]`, normalized.
      regions: `[B, H, W]` integers in 0 .. K-1, such as `decision_map` gives.
      targets: `[B]` integers, for example the true or the predicted ones.
      num_regions: K; 1 more than the largest number in `regions` if None.

    Returns:
      The importance. A region without pixels has drop 0.

    Source: CLUENet, importance of a region (see docs/maps.md).
    """
    if num_regions is None:
        num_regions = int(np.max(regions)) + 1
    masks = np.asarray(regions)[None] == np.arange(num_regions)[:, None, None, None]
    return importance_of_masks(score, variables, images, masks, targets)


@functools.partial(jax.jit, static_argnums=0)
def importance_of_masks(
    score: ScoreFn, variables: dict, images: jax.Array, masks: jax.Array, targets: jax.Array
) -> Importance:
    """As `importance`, of any K masks, bool `[K, B, H, W]`, which may overlap."""
    count = len(masks)
    dropped = jnp.where(masks[..., None], mean_fill(images), images)
    kept = jnp.where(masks[..., None], images, blur(images))
    scores = score_variants(
        score, variables, jnp.concatenate([images[None], dropped, kept]), targets
    )
    whole, dropped, kept = scores[0], scores[1 : 1 + count], scores[1 + count :]
    return Importance(targets.astype(jnp.int32), whole, (whole - dropped).T, kept.T)


def score_variants(
    score: ScoreFn, variables: dict, variants: jax.Array, targets: jax.Array
) -> jax.Array:
    """`[V, B]`, the scores of V variants `[V, B, H, W, 3]` of a batch, in one forward pass."""
    count = len(variants)
    flat = variants.reshape(-1, *variants.shape[2:])
    return score(variables, flat, jnp.tile(targets, count)).reshape(count, -1)


def mean_fill(images: jax.Array) -> jax.Array:
    """`[B, H, W, C]`, each image wholly of its mean color."""
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
