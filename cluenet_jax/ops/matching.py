"""Which truth each box learns, and which boxes are sampled for a loss, of fixed shapes.

As mmdetection's `MaxIoUAssigner` and `RandomSampler`. Truths stand in a fixed number of slots, a
mask says which are real; samples too.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from cluenet_jax.ops.boxes import box_iou
from cluenet_jax.ops.ranking import take

# What a box is matched with instead of a truth; truth k is k + 1.
NEGATIVE, IGNORED, INVALID = 0, -1, -2


class Thresholds(NamedTuple):
    """The overlaps that decide about a box.

    Attributes:
      positive: A box of at least this IoU with a truth learns the one it overlaps most.
      negative: A box of less IoU with every truth is background; between the two it is ignored.
      low_quality: The boxes that a truth overlaps most learn it too, from this IoU on; None: no.
    """

    positive: float
    negative: float
    low_quality: float | None


class Samples(NamedTuple):
    """Boxes of each image that a loss is made of, in S slots: the positive ones come first.

    Attributes:
      index: `[B, S]` int32, which box.
      positive: `[B, S]` bool, whether it learns a truth.
      valid: `[B, S]` bool, whether the slot is in use, by a positive or a negative box.
    """

    index: jax.Array
    positive: jax.Array
    valid: jax.Array


def match_boxes(
    boxes: jax.Array,
    truths: jax.Array,
    boxes_valid: jax.Array,
    truths_valid: jax.Array,
    thresholds: Thresholds,
) -> jax.Array:
    """Matches boxes with truths by their overlap.

    All boxes that reach exactly a truth's best IoU count as its best ones; where they are those of
    several truths, the last truth wins.

    Args:
      boxes: `[..., N, 4]` float32; leading axes of all are broadcast.
      truths: `[..., M, 4]` float32.
      boxes_valid: `[..., N]` bool.
      truths_valid: `[..., M]` bool.
      thresholds: Of the decisions.

    Returns:
      `[..., N]` int32: k + 1 for the k-th truth, `NEGATIVE`, `IGNORED`, or `INVALID` for those
      that are not valid.
    """
    if truths.shape[-2] == 0:
        return jnp.where(boxes_valid, NEGATIVE, INVALID)
    # The long axis last: it fills a processor's lanes.
    both = truths_valid[..., :, None] & boxes_valid[..., None, :]
    overlaps = jnp.where(both, box_iou(truths, boxes), -1)
    # Compared with its own maximum below: it must not be computed twice, with other roundings.
    overlaps = jax.lax.optimization_barrier(overlaps)
    best, own = overlaps.max(-2), overlaps.argmax(-2).astype(jnp.int32)
    matched = jnp.where(best < thresholds.negative, NEGATIVE, IGNORED)
    matched = jnp.where(best >= thresholds.positive, own + 1, matched)
    if thresholds.low_quality is not None:
        last = _last_truth_at_its_best(overlaps, thresholds.low_quality)
        matched = jnp.where(last > 0, last, matched)
    return jnp.where(boxes_valid, matched, INVALID)


def _last_truth_at_its_best(overlaps: jax.Array, least: float) -> jax.Array:
    """k + 1 of the last truth that overlaps no box more, 0 if there is none.

    `overlaps` are `[..., M, N]`, the result is `[..., N]` int32.
    """
    best = overlaps.max(-1, keepdims=True)
    at_best = (overlaps == best) & (best >= least)
    numbers = jnp.arange(1, overlaps.shape[-2] + 1, dtype=jnp.int32)[:, None]
    return jnp.where(at_best, numbers, 0).max(-2)


def sample_boxes(key: jax.Array, matched: jax.Array, count: int, num_positive: int) -> Samples:
    """Draws positive and negative boxes at random, without repetition.

    Args:
      key: Of the draw.
      matched: `[B, N]` int32, from `match_boxes`.
      count: S, how many boxes are drawn, or all there are.
      num_positive: How many of them are positive at most; negative ones fill up.

    Returns:
      S slots.
    """
    positive, negative = matched > 0, matched == NEGATIVE
    kind = jnp.where(positive, 0, jnp.where(negative, 1, 2))
    draw = jax.random.uniform(key, matched.shape)
    index = jax.lax.broadcasted_iota(jnp.int32, matched.shape, 1)
    # Positive boxes in random order, then negative ones in random order.
    *_, order = jax.lax.sort((kind, draw, index), num_keys=2)
    positives = positive.sum(-1, keepdims=True, dtype=jnp.int32)
    negatives = negative.sum(-1, keepdims=True, dtype=jnp.int32)
    drawn = jnp.minimum(positives, num_positive)
    slot = jnp.arange(count, dtype=jnp.int32)
    is_positive = slot < drawn
    valid = slot < drawn + negatives
    place = jnp.where(is_positive, slot, slot - drawn + positives)
    # An unused slot holds the last box, whichever that is.
    place = jnp.minimum(place, matched.shape[1] - 1)
    return Samples(take(order, place), is_positive, valid)


def matched_truths(truths: jax.Array, matched: jax.Array) -> jax.Array:
    """What each box's truth has: `[B, M, *rest]` and `[B, N]` to `[B, N, *rest]`.

    Boxes without a truth get the first one's.
    """
    return take(truths, jnp.maximum(matched - 1, 0))
