"""RoIAlign: equal to mmcv's recorded values and to its loop over samples."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from cluenet_jax import ops
from cluenet_jax.ops.roi_align import axis_weights
from cluenet_jax.train.sharding import AXIS, make_mesh
from tests.helpers.dense import load_dense, normal
from tests.helpers.golden import relative_error
from tests.ops.test_boxes import random_boxes
from tests.ops.test_partitioning import collectives

CASE = load_dense("det_roialign")
MASKS = load_dense("det_masks")
FEATURES = normal((2, 12, 17, 3), 53)


@functools.partial(jax.jit, static_argnums=(2, 3))
def align(levels, boxes, strides, bins):
    return ops.roi_align(levels, boxes, strides, bins)


def in_slots(rois):
    """`[R, 5]` of image and box to slots of two images, and where each roi is there."""
    images = rois[:, 0].astype(int)
    slots = np.zeros((2, len(rois), 4), np.float32)
    slots[images, np.arange(len(rois))] = rois[:, 1:]
    return slots, (images, np.arange(len(rois)))


def slow_align(features, box, stride, bins):
    """The samples one by one, in float64: `[H, W, C]` and one box to `[bins, bins, C]`."""
    x1, y1, x2, y2 = np.asarray(box, np.float64) / stride - 0.5
    counts = [int(np.ceil((end - start) / bins)) for start, end in ((y1, y2), (x1, x2))]
    result = np.zeros((bins, bins, features.shape[-1]))
    for row in range(bins):
        for column in range(bins):
            for i in range(counts[0]):
                for j in range(counts[1]):
                    y = y1 + (row + (i + 0.5) / counts[0]) * (y2 - y1) / bins
                    x = x1 + (column + (j + 0.5) / counts[1]) * (x2 - x1) / bins
                    result[row, column] += bilinear(features, y, x)
    return result / max(counts[0] * counts[1], 1)


def bilinear(features, y, x):
    height, width, _ = features.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    y, x = y - top, x - left
    upper = features[top, left] * (1 - x) + features[top, right] * x
    lower = features[bottom, left] * (1 - x) + features[bottom, right] * x
    return upper * (1 - y) + lower * y


@pytest.mark.parametrize("bins", [7, 14])
def test_values_are_the_recorded_ones(bins):
    slots, places = in_slots(CASE["rois"])
    ours = np.asarray(align((FEATURES,), slots, (4,), bins))[places]
    assert relative_error(ours, CASE[f"out{bins}"]) < 1e-5


def test_counts_of_samples_that_hang_on_rounding_are_the_recorded_ones():
    slots, places = in_slots(CASE["edge/rois"])
    ours = np.asarray(align((FEATURES,), slots, (4,), 7))[places]
    assert relative_error(ours, CASE["edge/out7"]) < 1e-5


def test_gradients_are_the_recorded_ones():
    slots, places = in_slots(CASE["rois"])
    weights = normal((31, 7, 7, 3), 54)

    def loss(features):
        return (align((features,), slots, (4,), 7)[places] * weights).sum()

    grad = jax.jit(jax.grad(loss))(FEATURES)
    assert relative_error(grad, CASE["grad_input/map"]) < 1e-4


def test_each_box_takes_the_recorded_level():
    rois = CASE["levels/rois"]
    levels = tuple(normal(shape, [55, i]) for i, shape in enumerate(CASE["levels"].tolist()))
    slots, places = in_slots(rois)
    np.testing.assert_array_equal(ops.box_levels(rois[:, 1:], 4), CASE["levels/level"])
    ours = np.asarray(align(levels, slots, (4, 8, 16, 32), 7))[places]
    assert relative_error(ours, CASE["levels/out"]) < 1e-5


def test_targets_of_masks_are_the_recorded_ones():
    bitmaps, boxes, index = (MASKS[k] for k in ("bitmaps", "boxes", "index"))
    packed = np.packbits(bitmaps.astype(bool), axis=-1)
    target = jax.jit(ops.mask_targets, static_argnums=3)
    ours = target(packed[None], boxes[None], index[None], 28)[0]
    assert relative_error(ours, MASKS["targets_soft"]) < 1e-5
    different = np.asarray(ours >= 0.5) != MASKS["targets"].astype(bool)
    # Rounding decides where a bin is half covered: in 4 of 6272 pixels.
    assert different.sum() < 6 and (abs(np.asarray(ours)[different] - 0.5) < 1e-6).all()


@pytest.mark.parametrize("bins", [1, 3, 7])
def test_it_is_the_loop_over_samples(bins):
    boxes = np.asarray(
        [
            [4.2, 3.1, 30.7, 21.9],  # inside
            [-30, -9, 70, 60],  # larger than the map
            [3, 3, 3.5, 3.25],  # much less than a pixel
            [60, 40, 67.9, 47.8],  # at the end
            [-3.7, -3.7, 0.1, 0.1],  # at the start
            [5, 5, 5, 20],  # without a width
            [100, 100, 140, 140],  # outside
        ],
        np.float32,
    )
    ours = align((FEATURES,), np.stack([boxes, boxes[::-1]]), (4,), bins)
    for i, box in enumerate(boxes):
        expected = slow_align(FEATURES[0], box, 4, bins)
        np.testing.assert_allclose(ours[0, i], expected, atol=2e-5)
        expected = slow_align(FEATURES[1], box, 4, bins)
        np.testing.assert_allclose(ours[1, len(boxes) - 1 - i], expected, atol=2e-5)


def test_weights_of_any_length_are_the_loop_over_samples():
    rng = np.random.default_rng(0)
    for size in (1, 2, 9):
        start = rng.uniform(-6, 10, 50)
        end = start + rng.choice([0.01, 0.5, 1.1, 3.1, 7.3, 30.2, 199.3], 50)
        lines = np.eye(size)[:, None, :]
        ours = axis_weights(jnp.float32(start), jnp.float32(end), size, 4)
        for i in range(50):
            box = np.asarray([0, np.float32(start[i]), 1, np.float32(end[i])])
            # One column, in which every sample lies within the map.
            expected = slow_align(lines, [0, box[1], 1, box[3]], 1, 4)[:, 0]
            np.testing.assert_allclose(ours[i], expected, atol=1e-4)


def test_a_linear_ramp_stays_linear():
    y, x = np.meshgrid(np.arange(24.0), np.arange(32.0), indexing="ij")
    ramp = np.float32(2 * y - 3 * x + 5)[None, :, :, None]
    boxes = np.float32([[[10, 9, 80, 90], [30, 8, 35, 60], [20, 20, 21, 21]]])
    ours = np.asarray(align((ramp,), boxes, (4,), 7))[0, ..., 0]
    for values, (x1, y1, x2, y2) in zip(ours, boxes[0] / 4, strict=True):
        middle = (np.arange(7) + 0.5) / 7
        rows = y1 - 0.5 + middle * (y2 - y1)
        columns = x1 - 0.5 + middle * (x2 - x1)
        np.testing.assert_allclose(values, 2 * rows[:, None] - 3 * columns + 5, atol=1e-4)


def test_padding_and_parts_change_nothing():
    """70 boxes are computed in parts, of which the last one is filled up."""
    boxes = random_boxes(1, 2, 70) * 0.6
    whole = align((FEATURES,), boxes, (4,), 7)
    assert whole.shape == (2, 70, 7, 7, 3)
    np.testing.assert_allclose(align((FEATURES,), boxes[:, 66:], (4,), 7), whole[:, 66:], atol=1e-6)
    padded = np.concatenate([boxes, np.zeros((2, 9, 4), np.float32)], axis=1)
    with_padding = align((FEATURES,), padded, (4,), 7)
    np.testing.assert_array_equal(with_padding[:, :70], whole)
    assert not with_padding[:, 70:].any()


def test_targets_of_many_masks_are_computed_in_parts():
    bitmaps = np.random.default_rng(0).random((2, 3, 20, 32)) < 0.5
    boxes = random_boxes(2, 2, 19) * 0.25
    index = np.random.default_rng(1).integers(0, 3, (2, 19), np.int32)
    targets = ops.mask_targets(np.packbits(bitmaps, axis=-1), boxes, index, 6)
    for image in range(2):
        for i in (0, 9, 18):
            bitmap = bitmaps[image, index[image, i], :, :, None].astype(np.float64)
            expected = slow_align(bitmap, boxes[image, i], 1, 6)[..., 0]
            np.testing.assert_allclose(targets[image, i], expected, atol=1e-5)


def test_features_may_be_of_a_short_type():
    boxes = random_boxes(3, 2, 4) * 0.5
    short = align((jnp.asarray(FEATURES, jnp.bfloat16),), boxes, (4,), 7)
    assert short.dtype == jnp.bfloat16
    assert relative_error(short, align((FEATURES,), boxes, (4,), 7)) < 0.02


def test_nothing_is_gathered_and_images_stay_on_their_device():
    sharding = NamedSharding(make_mesh(), PartitionSpec(AXIS))

    def placed(*shape):
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)

    def both(level, boxes):
        features, transpose = jax.vjp(lambda x: ops.roi_align((x,), boxes, (4,), 7), level)
        return transpose(features)

    program = jax.jit(both).lower(placed(4, 9, 13, 6), placed(4, 40, 4)).compile().as_text()
    assert not collectives(program)
    assert not any(f" {kind}(" in program for kind in ("gather", "scatter"))
