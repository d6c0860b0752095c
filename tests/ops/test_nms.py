"""Suppression: equal to the greedy loop, box by box, ties and padding included."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from cluenet_jax import ops
from cluenet_jax.train.sharding import AXIS, make_mesh
from tests.helpers.dense import load_dense
from tests.ops.test_boxes import random_boxes
from tests.ops.test_partitioning import collectives

CASE = load_dense("det_nms")


@functools.partial(jax.jit, static_argnums=2)
def run(boxes, valid, threshold, groups=None):
    return ops.nms(boxes, valid, threshold, groups)


def greedy(boxes, valid, threshold, groups):
    """The loop, in the order of the boxes, with overlaps of the same rounding."""
    overlaps, kept = np.asarray(ops.box_iou(boxes, boxes)), []
    for i in range(len(boxes)):
        rivals = [j for j in kept if groups[i] == groups[j]]
        if valid[i] and not any(overlaps[i, j] > threshold for j in rivals):
            kept.append(i)
    return np.isin(np.arange(len(boxes)), kept)


def crowded(seed, count, num_groups=1):
    """Integer boxes, many of them equal, with a mask and groups."""
    rng = np.random.default_rng(seed)
    low, sides = rng.integers(0, 12, (count, 2)), rng.integers(1, 8, (count, 2))
    boxes = np.concatenate([low, low + sides], axis=-1).astype(np.float32)
    boxes[count // 2 :: 3] = boxes[: len(boxes[count // 2 :: 3])]
    return boxes, rng.random(count) < 0.8, rng.integers(0, num_groups, count, np.int32)


@pytest.mark.parametrize("threshold", [0.5, 0.7])
def test_kept_boxes_are_the_recorded_ones(threshold):
    order = np.argsort(-CASE["scores"], kind="stable")
    boxes, groups = CASE["boxes"][order], CASE["groups"][order]
    valid = np.ones(len(order), bool)
    keep = order[run(boxes, valid, threshold)]
    np.testing.assert_array_equal(keep, CASE[f"keep_{threshold}"])
    keep = order[run(boxes, valid, threshold, groups)]
    np.testing.assert_array_equal(keep, CASE[f"keep_groups_{threshold}"])


def test_the_best_of_all_classes_are_the_recorded_ones():
    scores = CASE["multiclass/scores"][None, :, :-1]
    boxes = CASE["multiclass/boxes"].reshape(1, *scores.shape[1:], 4)
    suppress = jax.jit(ops.multiclass_nms, static_argnums=(3, 4))
    index, valid = suppress(boxes, scores, scores > 0.05, 0.5, 25)
    assert index.shape == (1, 25) and valid.all()
    np.testing.assert_array_equal(index[0], CASE["multiclass/out_index"])
    np.testing.assert_array_equal(index[0] % 5, CASE["multiclass/out_labels"])
    np.testing.assert_array_equal(
        boxes.reshape(-1, 4)[np.asarray(index[0])], CASE["multiclass/out_boxes"]
    )
    np.testing.assert_array_equal(
        scores.reshape(-1)[np.asarray(index[0])], CASE["multiclass/out_scores"]
    )


def test_images_without_enough_boxes_fill_up_with_what_is_not_valid():
    scores = np.zeros((2, 4, 3), np.float32)
    scores[1, 2, 1], scores[1, 3, 1], scores[1, 0, 0] = 0.5, 0.4, 0.6
    boxes = np.broadcast_to(random_boxes(0, 2, 4)[:, :, None], (2, 4, 3, 4)).copy()
    boxes[1, 3] = boxes[1, 2]
    index, valid = ops.multiclass_nms(boxes, scores, scores > 0.05, 0.5, 20)
    assert index.shape == valid.shape == (2, 12)
    np.testing.assert_array_equal(valid.sum(-1), [0, 2])
    np.testing.assert_array_equal(index[1, :2], [0 * 3 + 0, 2 * 3 + 1])


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("num_groups", [1, 3])
def test_it_is_the_greedy_loop(threshold, num_groups):
    suppressed = 0
    for seed in range(5):
        boxes, valid, groups = crowded(seed, 60, num_groups)
        keep = run(boxes, valid, threshold, groups)
        np.testing.assert_array_equal(keep, greedy(boxes, valid, threshold, groups))
        suppressed += (valid & ~keep).sum()
    assert threshold == 1.0 or suppressed > 0


def test_no_kept_box_overlaps_another_and_each_other_has_a_reason():
    boxes, valid, _ = crowded(7, 80)
    keep = np.asarray(run(boxes, valid, 0.4))
    overlaps = np.asarray(ops.box_iou(boxes, boxes))
    assert (np.triu(overlaps, 1)[np.ix_(keep, keep)] <= 0.4).all()
    for i in np.flatnonzero(valid & ~keep):
        assert (overlaps[i, :i][keep[:i]] > 0.4).any()


def test_a_chain_of_boxes_takes_many_rounds():
    start = np.arange(30, dtype=np.float32) * 4
    boxes = np.stack([start, 0 * start, start + 10, 0 * start + 10], axis=-1)
    keep = run(boxes, np.ones(30, bool), 0.4)
    np.testing.assert_array_equal(keep, np.arange(30) % 2 == 0)


def test_padding_changes_nothing():
    boxes, valid, _ = crowded(3, 40)
    padded = np.concatenate([boxes, boxes[:10], np.zeros((5, 4), np.float32)])
    keep = run(padded, np.concatenate([valid, np.zeros(15, bool)]), 0.5)
    np.testing.assert_array_equal(keep[:40], run(boxes, valid, 0.5))
    assert not keep[40:].any()


def test_images_do_not_touch_each_other():
    images = [crowded(seed, 30) for seed in range(3)]
    boxes, valid, _ = (np.stack(arrays) for arrays in zip(*images, strict=True))
    keep = run(boxes, valid, 0.5)
    for i in range(3):
        np.testing.assert_array_equal(keep[i], run(boxes[i], valid[i], 0.5))


def test_ranking_takes_the_lower_index_first():
    scores = jnp.asarray([[1.0, 3, 2, 3, -jnp.inf], [0, 0, 0, 0, 5]])
    np.testing.assert_array_equal(ops.ranking(scores, 4), [[1, 3, 2, 0], [4, 0, 1, 2]])
    assert ops.ranking(scores, 9).shape == (2, 5)
    values = jnp.arange(20.0).reshape(2, 5, 2)
    taken = ops.take(values, jnp.asarray([[4, 0, 0], [1, 1, 3]]))
    np.testing.assert_array_equal(taken[1], values[1, [1, 1, 3]])


def test_devices_tell_each_other_only_when_to_end():
    sharding = NamedSharding(make_mesh(), PartitionSpec(AXIS))

    def placed(*shape, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    inputs = placed(4, 9, 3, 4), placed(4, 9, 3), placed(4, 9, 3, dtype=jnp.bool_)
    suppress = jax.jit(ops.multiclass_nms, static_argnums=(3, 4))
    program = suppress.lower(*inputs, 0.5, 7).compile().as_text()
    assert {shape for _, shape in collectives(program)} <= {()}
