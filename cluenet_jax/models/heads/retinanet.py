"""RetinaNet (arXiv 1708.02002): classes and boxes of anchors in one step, on a feature pyramid.

As mmdetection's `retinanet_r50_fpn`, with fixed shapes: truths and detections stand in slots, and
masks say which slots are in use. The first level of the backbone is not read.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cluenet_jax import ops
from cluenet_jax.models import torch_names as names
from cluenet_jax.models.features import check_levels
from cluenet_jax.models.heads import fpn
from cluenet_jax.models.heads.layers import check_sizes, check_threshold
from cluenet_jax.models.heads.roi_box import of_class
from cluenet_jax.models.heads.rpn import EPSILON, SharedConv, l1_distances
from cluenet_jax.models.heads.truths import Truths, match_anchors, padded, sizes_or_canvas

THRESHOLDS = ops.Thresholds(positive=0.5, negative=0.4, low_quality=0.0)
_STDS = (1.0, 1.0, 1.0, 1.0)
_NMS_THRESHOLD = 0.5
# An anchor's side at ratio 1 in strides of its level, and how many sizes there are up to twice it.
_SCALE, _OCTAVES = 4, 3
_NUM_ANCHORS = _OCTAVES * len(ops.ANCHOR_RATIOS)
_NUM_CONVS = 4
# Of the focal loss.
_ALPHA, _GAMMA = 0.25, 2.0
# A new head is sure of 1 % of an object everywhere.
_CLASS_BIAS = -float(np.log(99))
_init = nn.initializers.normal(0.01)

Levels = tuple[jax.Array, ...]


class RetinaNet(nn.Module):
    """Objects of images: boxes and classes.

    Attributes:
      in_channels: Width of each level, finest first, each half as fine as the one before; the
        first one is not read.
      num_classes: K, without background.
      stride: Image pixels per pixel of the first level, along an axis.
      neck_width, width: Channels of the neck and of the two towers.
      eval_candidates: Pairs of an anchor and a class of a level that may be detected.
      score_threshold: What a detection's score is above.
      max_detections: D, detections of an image.
      dtype: Type of the activations; parameters, boxes, scores and logits are float32.
    """

    in_channels: tuple[int, ...]
    num_classes: int
    stride: int = 4
    neck_width: int = 256
    width: int = 256
    eval_candidates: int = 1000
    score_threshold: float = 0.05
    max_detections: int = 100
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        super().__post_init__()
        sizes = ("stride", "neck_width", "width", "eval_candidates", "max_detections")
        check_sizes(**{name: getattr(self, name) for name in sizes})
        check_threshold(self.score_threshold)

    def setup(self):
        self.neck = fpn.FPN(self.neck_width, num_conv_levels=2, dtype=self.dtype)
        self.bbox_head = Towers(self.num_classes, self.width, self.dtype)

    def __call__(
        self, levels: Levels, train: bool = False, image_sizes: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """Detects objects.

        Args:
          levels: `[B, H_s, W_s, C_s]` of each stage.
          train: Changes nothing; what is trained is `losses`.
          image_sizes: `[B, 2]`, heights and widths in pixels without padding; those of the whole
            canvas if None.

        Returns:
          By falling score, zeros where a slot is not in use: `boxes` `[B, D, 4]` float32 in
          pixels, `scores` `[B, D]` float32, `labels` `[B, D]` int32, `valid` `[B, D]` bool.

        Raises:
          ValueError: Levels of other widths than `in_channels`.
        """
        sizes = sizes_or_canvas(levels, self.stride, image_sizes)
        pyramid = self.pyramid(levels)
        outputs = zip(*self.bbox_head(pyramid), self.anchors(pyramid), strict=True)
        candidates = [self._candidates(*output, sizes) for output in outputs]
        boxes, scores, labels = (
            jnp.concatenate(arrays, axis=1) for arrays in zip(*candidates, strict=True)
        )
        order = ops.ranking(scores)
        boxes, scores, labels = (ops.take(array, order) for array in (boxes, scores, labels))
        keep = ops.nms(boxes, scores > -jnp.inf, _NMS_THRESHOLD, labels)
        best = ops.ranking(jnp.where(keep, scores, -jnp.inf), self.max_detections)
        valid = ops.take(keep, best)
        arrays = {
            "boxes": jnp.where(valid[..., None], ops.take(boxes, best), 0),
            "scores": jnp.where(valid, ops.take(scores, best), 0),
            "labels": jnp.where(valid, ops.take(labels, best), 0),
            "valid": valid,
        }
        return {name: ops.pad_to(a, self.max_detections) for name, a in arrays.items()}

    def losses(
        self,
        levels: Levels,
        truths: Truths,
        image_sizes: jax.Array | None = None,
        padded_sizes: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> dict[str, jax.Array]:
        """What training lowers the sum of; `head.apply(..., method="losses")`.

        Args:
          levels: `[B, H_s, W_s, C_s]` of each stage.
          truths: The objects; bitmaps are not read.
          image_sizes: `[B, 2]`, heights and widths in pixels without padding; those of the whole
            canvas if None.
          padded_sizes: `[B, 2]`, those up to which anchors learn; the image's, rounded up to
            multiples of 32, if None.
          key: Not used; nothing is drawn.

        Returns:
          float32 scalars over the batch: `class`, the focal loss, and `box`.

        Raises:
          ValueError: Levels of other widths than `in_channels`.
        """
        del key
        pyramid = self.pyramid(levels)
        sizes = sizes_or_canvas(levels, self.stride, image_sizes)
        matched = self.match_anchors(pyramid, truths, padded(sizes, padded_sizes))
        logits, deltas = (jnp.concatenate(arrays, axis=1) for arrays in self.bbox_head(pyramid))
        positive = matched > ops.NEGATIVE
        count = jnp.maximum(positive.sum(-1), 1).sum() + EPSILON
        own = ops.matched_truths(truths.labels, matched)
        wanted = of_class(own, self.num_classes) & positive[..., None]
        entropy = jnp.where(matched[..., None] >= ops.NEGATIVE, focal_loss(logits, wanted), 0)
        anchors = jnp.concatenate(self.anchors(pyramid))
        targets = ops.encode_boxes(anchors, ops.matched_truths(truths.boxes, matched), _STDS)
        distances = l1_distances(deltas, targets, positive)
        return {"class": entropy.sum() / count, "box": distances.sum() / count}

    def pyramid(self, levels: Levels) -> Levels:
        """The five levels of the neck, the first twice as coarse as the backbone's."""
        check_levels(levels, self.in_channels)
        return self.neck(levels[1:])

    def anchors(self, pyramid: Levels) -> list[jax.Array]:
        """`[N_s, 4]` of each level of the neck."""
        return [
            ops.anchor_grid(level.shape[1:3], stride, _SCALE, _OCTAVES)
            for level, stride in zip(pyramid, self._strides(len(pyramid)), strict=True)
        ]

    def match_anchors(self, pyramid: Levels, truths: Truths, padded_sizes: jax.Array) -> jax.Array:
        """`[B, N]` int32, as `ops.match_boxes`; anchors beyond `padded_sizes` are not valid."""
        strides = self._strides(len(pyramid))
        anchors = self.anchors(pyramid)
        return match_anchors(pyramid, strides, anchors, truths, padded_sizes, THRESHOLDS)

    def _candidates(
        self, logits: jax.Array, deltas: jax.Array, anchors: jax.Array, sizes: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Boxes, scores (-inf where there are not so many) and labels of a level."""
        scores = jax.nn.sigmoid(logits).reshape(logits.shape[0], -1)
        scores = jnp.where(scores > self.score_threshold, scores, -jnp.inf)
        best = ops.ranking(scores, self.eval_candidates)
        anchor, label = best // self.num_classes, best % self.num_classes
        boxes = ops.decode_boxes(anchors[anchor], ops.take(deltas, anchor), _STDS)
        boxes = ops.clip_boxes(boxes, sizes)
        scores = jnp.where(ops.has_area(boxes), ops.take(scores, best), -jnp.inf)
        return boxes, scores, label

    def _strides(self, count: int) -> tuple[int, ...]:
        return tuple(self.stride * 2**i for i in range(1, count + 1))


class Towers(nn.Module):
    """Class logits and deltas of each anchor, by the same layers on all levels.

    Attributes:
      num_classes: K.
      width: Channels of the convolutions.
      dtype: Of the convolutions; the outputs are float32.
    """

    num_classes: int
    width: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, levels: Levels) -> tuple[list[jax.Array], list[jax.Array]]:
        """Of each level `[B, N_s, K]` and `[B, N_s, 4]`, by row, column, ratio and size."""
        outputs = []
        for tower, size, bias in (("class", self.num_classes, _CLASS_BIAS), ("box", 4, 0.0)):
            maps = levels
            for i in range(1, _NUM_CONVS + 1):
                conv = SharedConv(self.width, _init, self.dtype, name=f"{tower}_conv{i}")
                maps = [nn.relu(level) for level in conv(maps)]
            last = SharedConv(
                _NUM_ANCHORS * size, _init, jnp.float32, bias=bias, name=f"{tower}_output"
            )
            outputs.append([level.reshape(level.shape[0], -1, size) for level in last(maps)])
        classes, boxes = outputs
        return classes, boxes


def focal_loss(logits: jax.Array, wanted: jax.Array) -> jax.Array:
    """Cross-entropy of logits `[...]` with bool `[...]`, less of what is sure and right."""
    probability = jax.nn.sigmoid(logits)
    wrong = jnp.where(wanted, 1 - probability, probability)
    weight = jnp.where(wanted, _ALPHA, 1 - _ALPHA) * wrong**_GAMMA
    return weight * (jax.nn.softplus(logits) - jnp.where(wanted, logits, 0))


def torch_names(head: RetinaNet) -> Iterator[names.Entry]:
    """The names of mmdetection's checkpoints."""
    num_levels = len(head.in_channels) - 1
    yield from names.below(fpn.torch_names(num_levels, num_conv_levels=2), "neck.", "neck")
    for ours, theirs in (("class", "cls"), ("box", "reg")):
        for i in range(_NUM_CONVS):
            torch, flax = f"bbox_head.{theirs}_convs.{i}.conv", f"bbox_head/{ours}_conv{i + 1}"
            yield from names.layer(torch, flax, names.CONV)
        torch, flax = f"bbox_head.retina_{theirs}", f"bbox_head/{ours}_output"
        yield from names.layer(torch, flax, names.CONV)
