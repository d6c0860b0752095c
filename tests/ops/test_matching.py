"""Matching and sampling: mmdetection's decisions, with truths and samples in slots."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cluenet_jax import ops
from tests.helpers.dense import load_dense
from tests.ops.test_boxes import random_boxes

CASE = load_dense("det_assign")
SETTINGS = {
    "rpn": ops.Thresholds(0.7, 0.3, 0.3),
    "roi": ops.Thresholds(0.5, 0.5, 0.5),
    "roi_plain": ops.Thresholds(0.5, 0.5, None),
    "retinanet": ops.Thresholds(0.5, 0.4, 0.0),
}
SCENES = ("ties", "exact", "none", "apart", "anchors", "rounding")


@functools.partial(jax.jit, static_argnums=4)
def match(boxes, truths, boxes_valid, truths_valid, thresholds):
    return ops.match_boxes(boxes, truths, boxes_valid, truths_valid, thresholds)


def valid(boxes):
    return np.ones(boxes.shape[:-1], bool)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("scene", SCENES)
def test_matches_are_the_recorded_ones(scene, setting):
    boxes, truths = CASE[f"{scene}/priors"], CASE[f"{scene}/truths"]
    ours = match(boxes, truths, valid(boxes), valid(truths), SETTINGS[setting])
    # Where rounding decides between equal overlaps, it may decide otherwise.
    stable = ~CASE["rounding/unstable"] if scene == "rounding" else valid(boxes)
    theirs = CASE[f"{scene}/{setting}/assigned"]
    np.testing.assert_array_equal(np.asarray(ours)[stable], theirs[stable])
    labels = np.concatenate([[-1], CASE[f"{scene}/truth_labels"]])[np.maximum(theirs, 0)]
    np.testing.assert_array_equal(labels, CASE[f"{scene}/{setting}/labels"])


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("scene", ["ties", "none", "anchors"])
def test_empty_slots_of_truths_and_boxes_change_nothing(scene, setting):
    boxes, truths = CASE[f"{scene}/priors"], CASE[f"{scene}/truths"]
    more_boxes = np.concatenate([boxes, random_boxes(0, 7)])
    more_truths = np.concatenate([truths, random_boxes(1, 3), np.zeros((2, 4), np.float32)])
    ours = match(
        more_boxes,
        more_truths,
        np.arange(len(more_boxes)) < len(boxes),
        np.arange(len(more_truths)) < len(truths),
        SETTINGS[setting],
    )
    np.testing.assert_array_equal(ours[: len(boxes)], CASE[f"{scene}/{setting}/assigned"])
    np.testing.assert_array_equal(ours[len(boxes) :], -2)


def test_images_are_matched_apart():
    boxes, truths = random_boxes(2, 3, 40), random_boxes(3, 3, 5)
    thresholds = SETTINGS["rpn"]
    ours = match(boxes, truths, valid(boxes), valid(truths), thresholds)
    assert (np.asarray(ours) > 0).any()
    for i in range(3):
        alone = match(boxes[i], truths[i], valid(boxes[i]), valid(truths[i]), thresholds)
        np.testing.assert_array_equal(ours[i], alone)


def draw(matched, count, num_positive, seed=0):
    sample = jax.jit(ops.sample_boxes, static_argnums=(2, 3))
    return sample(jax.random.key(seed), jnp.asarray(matched, jnp.int32), count, num_positive)


@pytest.mark.parametrize(
    ("positives", "negatives", "drawn"),
    [(20, 60, (8, 24)), (3, 60, (3, 29)), (20, 5, (8, 5)), (0, 60, (0, 32)), (0, 0, (0, 0))],
)
def test_positives_come_first_and_negatives_fill_up(positives, negatives, drawn):
    matched = np.full((2, 100), -1)
    rng = np.random.default_rng(0)
    for row in matched:
        places = rng.permutation(100)
        row[places[:positives]] = rng.integers(1, 4, positives)
        row[places[positives : positives + negatives]] = 0
        row[places[-5:]] = np.where(row[places[-5:]] == -1, -2, row[places[-5:]])
    samples = draw(matched, 32, 8)
    assert samples.index.shape == (2, 32) and samples.index.dtype == jnp.int32
    for row, index, positive, used in zip(matched, *map(np.asarray, samples), strict=True):
        assert (positive.sum(), (used & ~positive).sum()) == drawn
        np.testing.assert_array_equal(positive, np.arange(32) < drawn[0])
        np.testing.assert_array_equal(used, np.arange(32) < sum(drawn))
        assert (row[index[positive]] > 0).all() and (row[index[used & ~positive]] == 0).all()
        assert len(set(index[used])) == sum(drawn)


def test_every_box_is_drawn_equally_often():
    matched = np.tile(np.repeat([1, 0, -1], [10, 30, 10]), (500, 1))
    samples = draw(matched, 16, 4)
    drawn = np.bincount(np.asarray(samples.index).ravel(), minlength=50) / 500
    np.testing.assert_allclose(drawn[:10], 4 / 10, atol=0.1)
    np.testing.assert_allclose(drawn[10:40], 12 / 30, atol=0.1)
    assert not drawn[40:].any()
    other = draw(matched, 16, 4, seed=1)
    assert (np.asarray(other.index) != np.asarray(samples.index)).any()


def test_fewer_boxes_than_slots():
    samples = draw([[1, 0, -2]], 8, 4)
    np.testing.assert_array_equal(samples.valid[0], [True] * 2 + [False] * 6)
    np.testing.assert_array_equal(samples.index[0, :2], [0, 1])
    assert (samples.index < 3).all()


def test_a_box_gets_what_its_truth_has():
    labels = jnp.asarray([[4, 5, 6], [7, 8, 9]])
    matched = jnp.asarray([[3, 0, 1], [-1, 2, -2]])
    np.testing.assert_array_equal(ops.matched_truths(labels, matched), [[6, 4, 4], [7, 8, 7]])
