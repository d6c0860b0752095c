"""Greedy non-maximum suppression, exact, on arrays of fixed shapes.

In the order of falling scores a box is kept unless a kept one before it overlaps it too much:

    keep_i = valid_i and not any_{j < i} (keep_j and IoU_ij > threshold)

The equation has one solution, since box i depends on earlier ones only. Put into itself, starting
from all valid boxes, it has settled the first k boxes after k rounds at the latest; usually a few
rounds settle all.
"""

import jax
import jax.numpy as jnp

from cluenet_jax.ops.boxes import box_iou
from cluenet_jax.ops.ranking import ranking, take


def nms(
    boxes: jax.Array, valid: jax.Array, threshold: float, groups: jax.Array | None = None
) -> jax.Array:
    """Which boxes greedy suppression keeps.

    Args:
      boxes: `[..., N, 4]` float32, by falling score.
      valid: `[..., N]` bool; the others are not kept and suppress nothing.
      threshold: A box is suppressed by an IoU above it, not at it.
      groups: `[..., N]` int32; boxes of different groups do not suppress each other.

    Returns:
      `[..., N]` bool.
    """
    overlaps = box_iou(boxes, boxes) > threshold
    if groups is not None:
        overlaps &= groups[..., :, None] == groups[..., None, :]
    count = boxes.shape[-2]
    suppresses = overlaps & jnp.tri(count, k=-1, dtype=bool)

    def settle(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        keep, _ = state
        suppressed = (suppresses & keep[..., None, :]).any(-1)
        updated = valid & ~suppressed
        return updated, (updated != keep).any()

    return jax.lax.while_loop(lambda state: state[1], settle, (valid, jnp.array(True)))[0]


def multiclass_nms(
    boxes: jax.Array, scores: jax.Array, valid: jax.Array, threshold: float, count: int
) -> tuple[jax.Array, jax.Array]:
    """The best boxes of all classes after suppression within each class.

    Args:
      boxes: `[B, N, K, 4]` float32, a box of each candidate for each of K classes.
      scores: `[B, N, K]` float32.
      valid: `[B, N, K]` bool.
      threshold: Of `nms`.
      count: How many boxes.

    Returns:
      index: `[B, min(count, N * K)]` int32, candidate * K + class, by falling score.
      valid: The same shape, bool: whether there were so many.
    """
    scores = jnp.where(valid, scores, -jnp.inf)

    def of_class(inputs: tuple[jax.Array, jax.Array]) -> jax.Array:
        boxes, scores = inputs
        order = ranking(scores)
        keep = nms(take(boxes, order), take(scores, order) > -jnp.inf, threshold)
        return take(keep, jnp.argsort(order, axis=-1))

    # A class after the other: an N x N matrix of each would not fit.
    keep = jax.lax.map(of_class, (jnp.moveaxis(boxes, 2, 0), jnp.moveaxis(scores, 2, 0)))
    scores = jnp.where(jnp.moveaxis(keep, 0, 2), scores, -jnp.inf).reshape(scores.shape[0], -1)
    index = ranking(scores, count)
    return index, take(scores, index) > -jnp.inf
