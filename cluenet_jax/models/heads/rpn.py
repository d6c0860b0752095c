"""The region proposal network (arXiv 1506.01497): where objects of any class may be."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax import ops
from cluenet_jax.models import torch_names as names

THRESHOLDS = ops.Thresholds(positive=0.7, negative=0.3, low_quality=0.3)
# Of the samples, at most.
POSITIVE_FRACTION = 0.5
_NUM_ANCHORS = 3
_STDS = (1.0, 1.0, 1.0, 1.0)
_NMS_THRESHOLD = 0.7
# Added to counts that losses are divided by, as mmdetection does.
EPSILON = float(jnp.finfo(jnp.float32).eps)


class LevelOutput(NamedTuple):
    """What the network says of the anchors of a level, by row, column and ratio.

    Attributes:
      objectness: `[B, N]` float32 logits of holding an object.
      deltas: `[B, N, 4]` float32, from the anchor to the object.
    """

    objectness: jax.Array
    deltas: jax.Array


class Proposals(NamedTuple):
    """Boxes that may hold an object, in R slots by falling score.

    Attributes:
      boxes: `[B, R, 4]` float32 in pixels of the image.
      scores: `[B, R]` float32 in 0 .. 1.
      valid: `[B, R]` bool, whether the slot is in use.
    """

    boxes: jax.Array
    scores: jax.Array
    valid: jax.Array


class RPNHead(nn.Module):
    """Objectness and deltas of each anchor, by the same layers on all levels.

    Attributes:
      width: Channels of the hidden layer.
      dtype: Type of the hidden layer; the outputs are float32.
    """

    width: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, levels: tuple[jax.Array, ...]) -> list[LevelOutput]:
        """`levels` are `[B, H_s, W_s, C]`, finest first."""
        init = nn.initializers.normal(0.01)
        hidden = SharedConv(self.width, init, self.dtype, name="hidden")(levels)
        # All cells in one axis: on several devices the gradients of layers that are used level by
        # level would be exchanged cell by cell.
        x = jnp.concatenate([_cells(nn.relu(level)) for level in hidden], axis=1)
        x = x.astype(jnp.float32)
        objectness = nn.Dense(_NUM_ANCHORS, kernel_init=init, name="objectness")(x)
        deltas = nn.Dense(4 * _NUM_ANCHORS, kernel_init=init, name="deltas")(x)
        # By slices: of a split, the gradients would be exchanged level by level again.
        outputs, start = [], 0
        for level in levels:
            end = start + level.shape[1] * level.shape[2]
            own = objectness[:, start:end], deltas[:, start:end]
            batch = level.shape[0]
            outputs.append(LevelOutput(own[0].reshape(batch, -1), own[1].reshape(batch, -1, 4)))
            start = end
        return outputs


class SharedConv(nn.Module):
    """A convolution of 3x3 pixels, the same for all levels.

    Its kernel is converted once. As often as it is, several devices would exchange its gradient.

    Attributes:
      width: Channels.
      kernel_init: Of the kernel.
      dtype: Of the convolution and its output.
      bias: What the bias begins with.
    """

    width: int
    kernel_init: nn.initializers.Initializer
    dtype: jnp.dtype
    bias: float = 0.0

    @nn.compact
    def __call__(self, levels: Sequence[jax.Array]) -> list[jax.Array]:
        """Each of `[B, H_s, W_s, C]` becomes `[B, H_s, W_s, width]`."""
        shape = (3, 3, levels[0].shape[-1], self.width)
        kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
        init = nn.initializers.constant(self.bias)
        bias = self.param("bias", init, (self.width,)).astype(self.dtype)
        return [
            jax.lax.conv_general_dilated(
                level.astype(self.dtype),
                kernel,
                (1, 1),
                "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            + bias
            for level in levels
        ]


def _cells(level: jax.Array) -> jax.Array:
    """`[B, H, W, C]` to `[B, H * W, C]`."""
    return level.reshape(level.shape[0], -1, level.shape[-1])


def propose(
    outputs: Sequence[LevelOutput],
    anchors: Sequence[jax.Array],
    sizes: jax.Array,
    candidates: int,
    count: int,
) -> Proposals:
    """The best boxes of all levels, after suppression within each level; without gradients.

    Args:
      outputs: Of each level.
      anchors: `[N_s, 4]` of each level.
      sizes: `[B, 2]` float32, heights and widths that boxes are clipped to.
      candidates: How many boxes of a level take part.
      count: R, slots of the result.
    """
    outputs = jax.lax.stop_gradient(outputs)
    levels = [
        _propose_of_level(output, level_anchors, sizes, candidates)
        for output, level_anchors in zip(outputs, anchors, strict=True)
    ]
    boxes, scores, valid = (jnp.concatenate(arrays, axis=1) for arrays in zip(*levels, strict=True))
    scores = jnp.where(valid, scores, -jnp.inf)
    best = ops.ranking(scores, count)
    slots = Proposals(ops.take(boxes, best), ops.take(scores, best), ops.take(valid, best))
    slots = Proposals(*(ops.pad_to(array, count) for array in slots))
    return Proposals(
        jnp.where(slots.valid[..., None], slots.boxes, 0),
        jnp.where(slots.valid, slots.scores, 0),
        slots.valid,
    )


def _propose_of_level(
    output: LevelOutput, anchors: jax.Array, sizes: jax.Array, candidates: int
) -> Proposals:
    scores = jax.nn.sigmoid(output.objectness)
    best = ops.ranking(scores, candidates)
    boxes = ops.decode_boxes(anchors[best], ops.take(output.deltas, best), _STDS)
    boxes = ops.clip_boxes(boxes, sizes)
    keep = ops.nms(boxes, ops.has_area(boxes), _NMS_THRESHOLD)
    return Proposals(boxes, ops.take(scores, best), keep)


def rpn_losses(
    outputs: Sequence[LevelOutput],
    anchors: jax.Array,
    truths: jax.Array,
    matched: jax.Array,
    samples: ops.Samples,
) -> dict[str, jax.Array]:
    """Cross-entropy of the sampled anchors' objectness, and distances of the positive ones' deltas.

    Args:
      outputs: Of each level.
      anchors: `[N, 4]` of all levels.
      truths: `[B, M, 4]` float32.
      matched: `[B, N]` int32, from `ops.match_boxes`.
      samples: Of the anchors.

    Returns:
      `rpn_objectness` and `rpn_box`, float32 scalars; both are divided by the number of samples,
      where an image without positive or without negative ones counts as having one.
    """
    objectness, deltas = (jnp.concatenate(a, axis=1) for a in zip(*outputs, strict=True))
    positive, valid = samples.positive, samples.valid
    logits = ops.take(objectness, samples.index)
    entropy = jax.nn.softplus(logits) - jnp.where(positive, logits, 0)
    boxes = ops.matched_truths(truths, ops.take(matched, samples.index))
    targets = ops.encode_boxes(anchors[samples.index], boxes, _STDS)
    distances = l1_distances(ops.take(deltas, samples.index), targets, positive)
    negatives = (valid & ~positive).sum(-1)
    count = (jnp.maximum(positive.sum(-1), 1) + jnp.maximum(negatives, 1)).sum() + EPSILON
    return {
        "rpn_objectness": jnp.where(valid, entropy, 0).sum() / count,
        "rpn_box": distances.sum() / count,
    }


def l1_distances(deltas: jax.Array, targets: jax.Array, positive: jax.Array) -> jax.Array:
    """Sums over four deltas of positive boxes: `[..., 4]` twice and `[...]` to `[...]`."""
    # Where there is no truth, a target may be no number; neither loss nor gradient get it.
    targets = jnp.where(positive[..., None], targets, 0)
    return jnp.where(positive, jnp.abs(deltas - targets).sum(-1), 0)


def torch_names() -> Iterator[names.Entry]:
    """The names of the network in mmdetection's checkpoints."""
    yield from names.layer("rpn_conv", "hidden", names.CONV)
    yield from names.layer("rpn_cls", "objectness", names.CONV1X1)
    yield from names.layer("rpn_reg", "deltas", names.CONV1X1)
