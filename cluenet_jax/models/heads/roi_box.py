"""The head that names the object in a box and moves the box to it (arXiv 1504.08083)."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax import ops
from cluenet_jax.models import torch_names as names
from cluenet_jax.models.heads.rpn import EPSILON, Proposals, l1_distances

# Low quality relabels boxes here that are positive anyway.
THRESHOLDS = ops.Thresholds(positive=0.5, negative=0.5, low_quality=0.5)
# Of the samples, at most.
POSITIVE_FRACTION = 0.25
# Rows and columns of a box's features.
BINS = 7
_STDS = (0.1, 0.1, 0.2, 0.2)
_NMS_THRESHOLD = 0.5


class BoxOutput(NamedTuple):
    """What the head says of boxes, for K classes.

    Attributes:
      logits: `[B, R, K + 1]` float32, background last.
      deltas: `[B, R, K, 4]` float32, from the box to the object, if it is of the class.
    """

    logits: jax.Array
    deltas: jax.Array


class Detections(NamedTuple):
    """Objects, in D slots by falling score; zeros where a slot is not in use.

    Attributes:
      boxes: `[B, D, 4]` float32 in pixels of the image.
      scores: `[B, D]` float32 in 0 .. 1.
      labels: `[B, D]` int32 in 0 .. K-1.
      valid: `[B, D]` bool, whether the slot is in use.
    """

    boxes: jax.Array
    scores: jax.Array
    labels: jax.Array
    valid: jax.Array


class BoxHead(nn.Module):
    """Two hidden layers on all features of a box, and two linear maps.

    Attributes:
      num_classes: K, without background.
      width: Channels of the hidden layers.
      dtype: Type of the hidden layers; the outputs are float32.
    """

    num_classes: int
    width: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array) -> BoxOutput:
        """`features` are `[B, R, BINS, BINS, C]`."""
        batch, boxes = features.shape[:2]
        x = features.reshape(batch, boxes, -1)
        for i in (1, 2):
            layer = nn.Dense(
                self.width,
                kernel_init=nn.initializers.xavier_uniform(),
                dtype=self.dtype,
                name=f"hidden{i}",
            )
            x = nn.relu(layer(x))
        x = x.astype(jnp.float32)

        def output(width: int, deviation: float, name: str) -> jax.Array:
            return nn.Dense(width, kernel_init=nn.initializers.normal(deviation), name=name)(x)

        logits = output(self.num_classes + 1, 0.01, "classifier")
        deltas = output(4 * self.num_classes, 0.001, "deltas")
        return BoxOutput(logits, deltas.reshape(batch, boxes, self.num_classes, 4))


def box_losses(
    output: BoxOutput,
    rois: jax.Array,
    truths: jax.Array,
    labels: jax.Array,
    samples: ops.Samples,
) -> dict[str, jax.Array]:
    """Cross-entropy of the sampled boxes, and distances of the positive ones' deltas.

    Args:
      output: Of the sampled boxes.
      rois: `[B, R, 4]` float32, the sampled boxes.
      truths: `[B, R, 4]` float32, each one's own.
      labels: `[B, R]` int32, each one's own; background for those without a truth.
      samples: Which of them are in use.

    Returns:
      `class` and `box`, float32 scalars; both are divided by the number of samples of the batch.
    """
    num_classes = output.deltas.shape[-2]
    labels = jnp.where(samples.positive, labels, num_classes)
    own = of_class(labels, num_classes + 1)
    entropy = jax.nn.logsumexp(output.logits, axis=-1)
    entropy -= jnp.where(own, output.logits, 0).sum(-1)
    deltas = jnp.where(own[..., :-1, None], output.deltas, 0).sum(-2)
    targets = ops.encode_boxes(rois, truths, _STDS)
    distances = l1_distances(deltas, targets, samples.positive)
    count = samples.valid.sum() + EPSILON
    return {
        "class": jnp.where(samples.valid, entropy, 0).sum() / count,
        "box": distances.sum() / count,
    }


def of_class(labels: jax.Array, num_classes: int) -> jax.Array:
    """Whether a class is the label's: `[...]` integers to `[..., num_classes]` bool.

    A selection by comparison: its gradient is no scatter.
    """
    return labels[..., None] == jnp.arange(num_classes, dtype=labels.dtype)


def detect(
    output: BoxOutput,
    proposals: Proposals,
    sizes: jax.Array,
    threshold: float,
    count: int,
) -> Detections:
    """The best boxes of all classes, after suppression within each class.

    Args:
      output: Of the proposals.
      proposals: The boxes.
      sizes: `[B, 2]` float32, heights and widths that boxes are clipped to.
      threshold: Of the scores; a box needs more.
      count: D, slots of the result.
    """
    num_classes = output.deltas.shape[-2]
    scores = jax.nn.softmax(output.logits, axis=-1)[..., :-1]
    boxes = ops.decode_boxes(proposals.boxes[:, :, None], output.deltas, _STDS)
    boxes = ops.clip_boxes(boxes, sizes)
    usable = proposals.valid[..., None] & (scores > threshold)
    index, valid = ops.multiclass_nms(boxes, scores, usable, _NMS_THRESHOLD, count)
    batch = scores.shape[0]
    arrays = (
        jnp.where(valid[..., None], ops.take(boxes.reshape(batch, -1, 4), index), 0),
        jnp.where(valid, ops.take(scores.reshape(batch, -1), index), 0),
        jnp.where(valid, index % num_classes, 0),
        valid,
    )
    return Detections(*(ops.pad_to(array, count) for array in arrays))


def torch_names() -> Iterator[names.Entry]:
    """The names of the head in mmdetection's checkpoints."""
    yield from names.layer("shared_fcs.0", "hidden1", names.flattened(BINS))
    yield from names.layer("shared_fcs.1", "hidden2", names.LINEAR)
    yield from names.layer("fc_cls", "classifier", names.LINEAR)
    yield from names.layer("fc_reg", "deltas", names.LINEAR)
