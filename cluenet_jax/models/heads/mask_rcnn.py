"""Mask R-CNN (arXiv 1703.06870), and without masks Faster R-CNN, on a feature pyramid.

As mmdetection's `mask-rcnn_r50_fpn`, with fixed shapes: truths, proposals, samples and detections
stand in slots, and masks say which slots are in use. What stands in the others changes nothing.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax import ops
from cluenet_jax.models.features import check_levels
from cluenet_jax.models.heads import fpn, roi_box, roi_mask, rpn
from cluenet_jax.models.heads.layers import check_sizes, check_threshold
from cluenet_jax.models.heads.truths import Truths, match_anchors, padded, sizes_or_canvas
from cluenet_jax.models.torch_names import Entry, below

# Boxes below twice this side take their features from the first level; in its strides.
_FINEST_SIDE = 14.0

Levels = tuple[jax.Array, ...]


class LossSamples(NamedTuple):
    """The boxes that losses are made of.

    Attributes:
      anchors: Of all levels, one after another.
      rois: Of the slots of the truths, and of the proposals after them.
    """

    anchors: ops.Samples
    rois: ops.Samples


class MaskRCNN(nn.Module):
    """Objects of images: boxes, classes and masks.

    Attributes:
      in_channels: Width of each level, finest first, each half as fine as the one before.
      num_classes: K, without background.
      masks: Whether there is a mask head.
      stride: Image pixels per pixel of the first level, along an axis.
      anchor_scale: Side of a level's square anchor, in its strides; less for small objects.
      neck_width, rpn_width: Channels of the neck and of the proposal network.
      box_width, mask_width: Channels of the box head and of the mask head.
      rpn_samples: Anchors of an image that its losses are made of.
      roi_samples: Boxes of an image that the losses of the other heads are made of.
      train_candidates: Boxes of a level that may be proposed, for the losses.
      train_proposals: Boxes of an image that are proposed, for the losses.
      eval_candidates, eval_proposals: The same, for detections.
      score_threshold: What a detection's score is above.
      max_detections: D, detections of an image.
      dtype: Type of the activations; parameters, boxes, scores and logits are float32.
    """

    in_channels: tuple[int, ...]
    num_classes: int
    masks: bool = True
    stride: int = 4
    anchor_scale: int = ops.ANCHOR_SCALE
    neck_width: int = 256
    rpn_width: int = 256
    box_width: int = 1024
    mask_width: int = 256
    rpn_samples: int = 256
    roi_samples: int = 512
    train_candidates: int = 2000
    train_proposals: int = 1000
    eval_candidates: int = 1000
    eval_proposals: int = 1000
    score_threshold: float = 0.05
    max_detections: int = 100
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        super().__post_init__()
        names = ("neck_width", "rpn_width", "box_width", "mask_width", "max_detections")
        names += ("stride", "anchor_scale")
        names += tuple(f"{m}_{n}" for m in ("train", "eval") for n in ("candidates", "proposals"))
        check_sizes(**{name: getattr(self, name) for name in names})
        # Fewer have no positive ones.
        for name, least in (("rpn_samples", 2), ("roi_samples", 4)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}.")
        check_threshold(self.score_threshold)

    def setup(self):
        self.neck = fpn.FPN(self.neck_width, num_extra_levels=1, dtype=self.dtype)
        self.rpn_head = rpn.RPNHead(self.rpn_width, self.dtype)
        self.box_head = roi_box.BoxHead(self.num_classes, self.box_width, self.dtype)
        if self.masks:
            self.mask_head = roi_mask.MaskHead(self.num_classes, self.mask_width, self.dtype)

    def __call__(
        self,
        levels: Levels,
        train: bool = False,
        image_sizes: jax.Array | None = None,
    ) -> dict[str, jax.Array]:
        """Detects objects.

        Args:
          levels: `[B, H_s, W_s, C_s]` of each stage.
          train: Changes nothing; what is trained is `losses`.
          image_sizes: `[B, 2]`, heights and widths in pixels without padding; those of the whole
            canvas if None.

        Returns:
          By falling score, zeros where a slot is not in use: `boxes` `[B, D, 4]` float32 in
          pixels, `scores` `[B, D]` float32, `labels` `[B, D]` int32, `valid` `[B, D]` bool, and
          with masks `mask_logits` `[B, D, 28, 28]` float32 over the box, of its label.

        Raises:
          ValueError: Levels of other widths than `in_channels`.
        """
        sizes = sizes_or_canvas(levels, self.stride, image_sizes)
        pyramid = self.pyramid(levels)
        proposals = self.propose(pyramid, self.rpn_head(pyramid), sizes, train=False)
        output = self.describe_boxes(pyramid, proposals.boxes)
        detections = roi_box.detect(
            output, proposals, sizes, self.score_threshold, self.max_detections
        )
        result = detections._asdict()
        if self.masks:
            result["mask_logits"] = self.draw_masks(pyramid, detections.boxes, detections.labels)
        return result

    def losses(
        self,
        levels: Levels,
        truths: Truths,
        image_sizes: jax.Array | None = None,
        padded_sizes: jax.Array | None = None,
        key: jax.Array | None = None,
        samples: LossSamples | None = None,
    ) -> dict[str, jax.Array]:
        """What training lowers the sum of; `head.apply(..., method="losses")`.

        Args:
          levels: `[B, H_s, W_s, C_s]` of each stage.
          truths: The objects.
          image_sizes: `[B, 2]`, heights and widths in pixels without padding; those of the whole
            canvas if None.
          padded_sizes: `[B, 2]`, those up to which anchors are sampled; the image's, rounded up to
            multiples of 32, if None.
          key: Of the draw of samples.
          samples: In place of a draw; at most a quarter of `roi_samples` are positive.

        Returns:
          float32 scalars, means over the batch: `rpn_objectness`, `rpn_box`, `class`, `box`, and
          with masks `mask`.

        Raises:
          ValueError: Levels of other widths than `in_channels`, both or neither of `key` and
            `samples`, or no bitmaps for a mask head.
        """
        self._check_losses(truths, key, samples)
        sizes = sizes_or_canvas(levels, self.stride, image_sizes)
        padded_sizes = padded(sizes, padded_sizes)
        keys = (None, None) if key is None else jax.random.split(key)
        given = samples or LossSamples(None, None)
        pyramid = self.pyramid(levels)
        outputs = self.rpn_head(pyramid)
        losses = self._rpn_losses(pyramid, outputs, truths, padded_sizes, keys[0], given.anchors)
        proposals = self.propose(pyramid, outputs, sizes, train=True)
        return losses | self._roi_losses(pyramid, truths, proposals, keys[1], given.rois)

    @property
    def roi_thresholds(self) -> ops.Thresholds:
        """Of the matching of proposals; as published, low quality is for Mask R-CNN only."""
        low_quality = roi_box.THRESHOLDS.low_quality if self.masks else None
        return roi_box.THRESHOLDS._replace(low_quality=low_quality)

    def pyramid(self, levels: Levels) -> Levels:
        """The levels of the neck, one more than are given."""
        check_levels(levels, self.in_channels)
        return self.neck(levels)

    def anchors(self, pyramid: Levels) -> list[jax.Array]:
        """`[N_s, 4]` of each level of the neck."""
        return [
            ops.anchor_grid(level.shape[1:3], stride, self.anchor_scale)
            for level, stride in zip(pyramid, self._strides(len(pyramid)), strict=True)
        ]

    def match_anchors(self, pyramid: Levels, truths: Truths, padded_sizes: jax.Array) -> jax.Array:
        """`[B, N]` int32, as `ops.match_boxes`; anchors beyond `padded_sizes` are not valid."""
        strides = self._strides(len(pyramid))
        anchors = self.anchors(pyramid)
        return match_anchors(pyramid, strides, anchors, truths, padded_sizes, rpn.THRESHOLDS)

    def propose(
        self,
        pyramid: Levels,
        outputs: list[rpn.LevelOutput],
        sizes: jax.Array,
        train: bool,
    ) -> rpn.Proposals:
        """Boxes for the losses or for detections, clipped to `sizes` `[B, 2]`."""
        counts = (self.train_candidates, self.train_proposals)
        if not train:
            counts = (self.eval_candidates, self.eval_proposals)
        return rpn.propose(outputs, self.anchors(pyramid), sizes, *counts)

    def describe_boxes(self, pyramid: Levels, boxes: jax.Array) -> roi_box.BoxOutput:
        """The box head on boxes `[B, R, 4]` in pixels."""
        return self.box_head(self._features(pyramid, boxes, roi_box.BINS))

    def draw_masks(self, pyramid: Levels, boxes: jax.Array, labels: jax.Array) -> jax.Array:
        """The mask head on boxes `[B, R, 4]` in pixels with `labels` `[B, R]`."""
        return self.mask_head(self._features(pyramid, boxes, roi_mask.BINS), labels)

    def _rpn_losses(
        self,
        pyramid: Levels,
        outputs: list[rpn.LevelOutput],
        truths: Truths,
        padded_sizes: jax.Array,
        key: jax.Array | None,
        samples: ops.Samples | None,
    ) -> dict[str, jax.Array]:
        anchors = jnp.concatenate(self.anchors(pyramid))
        matched = self.match_anchors(pyramid, truths, padded_sizes)
        if samples is None:
            num_positive = int(rpn.POSITIVE_FRACTION * self.rpn_samples)
            samples = ops.sample_boxes(key, matched, self.rpn_samples, num_positive)
        return rpn.rpn_losses(outputs, anchors, truths.boxes, matched, samples)

    def _roi_losses(
        self,
        pyramid: Levels,
        truths: Truths,
        proposals: rpn.Proposals,
        key: jax.Array | None,
        samples: ops.Samples | None,
    ) -> dict[str, jax.Array]:
        candidates = jnp.concatenate([truths.boxes, proposals.boxes], axis=1)
        matched = match_candidates(truths, proposals, self.roi_thresholds)
        if samples is None:
            samples = ops.sample_boxes(key, matched, self.roi_samples, self._max_positive())
        rois, matched = ops.take(candidates, samples.index), ops.take(matched, samples.index)
        output = self.describe_boxes(pyramid, rois)
        labels = ops.matched_truths(truths.labels, matched)
        own_boxes = ops.matched_truths(truths.boxes, matched)
        losses = roi_box.box_losses(output, rois, own_boxes, labels, samples)
        if self.masks:
            losses["mask"] = self._mask_loss(pyramid, truths, rois, matched, samples.positive)
        return losses

    def _mask_loss(
        self,
        pyramid: Levels,
        truths: Truths,
        rois: jax.Array,
        matched: jax.Array,
        positive: jax.Array,
    ) -> jax.Array:
        # The positive ones come first.
        slots = slice(self._max_positive())
        rois, matched, positive = rois[:, slots], matched[:, slots], positive[:, slots]
        logits = self.draw_masks(pyramid, rois, ops.matched_truths(truths.labels, matched))
        index = jnp.maximum(matched - 1, 0)
        targets = ops.mask_targets(truths.bitmaps, rois, index, 2 * roi_mask.BINS)
        return roi_mask.mask_loss(logits, targets, positive)

    def _max_positive(self) -> int:
        return int(roi_box.POSITIVE_FRACTION * self.roi_samples)

    def _features(self, pyramid: Levels, boxes: jax.Array, bins: int) -> jax.Array:
        # The last level is for proposals only.
        levels = pyramid[:-1]
        strides = self._strides(len(levels))
        return ops.roi_align(levels, boxes, strides, bins, _FINEST_SIDE * self.stride)

    def _strides(self, count: int) -> tuple[int, ...]:
        return tuple(self.stride * 2**i for i in range(count))

    def _check_losses(self, truths: Truths, key: Any, samples: LossSamples | None) -> None:
        if (key is None) == (samples is None):
            raise ValueError("losses need either a key or samples.")
        if self.masks and truths.bitmaps is None:
            raise ValueError("A mask head needs the truths' bitmaps; or say masks=False.")


def match_candidates(
    truths: Truths, proposals: rpn.Proposals, thresholds: ops.Thresholds
) -> jax.Array:
    """What the slots of the truths and of the proposals after them are matched with.

    A truth is its own; it takes no part in the proposals' matching.

    Returns:
      `[B, M + R]` int32, as `ops.match_boxes`.
    """
    numbers = jnp.arange(1, truths.valid.shape[1] + 1, dtype=jnp.int32)
    own = jnp.where(truths.valid, numbers, ops.INVALID)
    matched = ops.match_boxes(
        proposals.boxes, truths.boxes, proposals.valid, truths.valid, thresholds
    )
    return jnp.concatenate([own, matched], axis=1)


def torch_names(head: MaskRCNN) -> Iterator[Entry]:
    """The names of mmdetection's checkpoints."""
    yield from below(fpn.torch_names(len(head.in_channels)), "neck.", "neck")
    yield from below(rpn.torch_names(), "rpn_head.", "rpn_head")
    yield from below(roi_box.torch_names(), "roi_head.bbox_head.", "box_head")
    if head.masks:
        yield from below(roi_mask.torch_names(), "roi_head.mask_head.", "mask_head")
