"""Boxes: anchors, deltas and overlaps are mmdetection's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cluenet_jax import ops
from tests.helpers.dense import load_dense
from tests.helpers.golden import relative_error

ANCHORS, CODER = load_dense("det_anchors"), load_dense("det_coder")
SIZES = [(18, 26), (9, 13), (5, 7), (3, 4), (2, 2)]
STRIDES = (4, 8, 16, 32, 64)
STDS = {"rpn": (1.0, 1.0, 1.0, 1.0), "roi": (0.1, 0.1, 0.2, 0.2)}


def random_boxes(seed: int, *shape: int) -> np.ndarray:
    """float32 `[*shape, 4]` with an area, in an image of some 100 pixels."""
    rng = np.random.default_rng(seed)
    low, sides = rng.uniform(0, 80, (*shape, 2)), rng.uniform(1, 40, (*shape, 2))
    return np.concatenate([low, low + sides], axis=-1).astype(np.float32)


@pytest.mark.parametrize("level", range(5))
def test_anchors_are_the_recorded_ones(level):
    base = ops.base_anchors(STRIDES[level])
    assert base.dtype == np.float32
    np.testing.assert_array_equal(base, ANCHORS[f"maskrcnn/base{level}"])
    grid = ops.anchor_grid(SIZES[level], STRIDES[level])
    np.testing.assert_array_equal(grid, ANCHORS[f"maskrcnn/level{level}"])


def test_smaller_anchors_have_the_same_centers_and_shapes():
    whole, half = ops.anchor_grid((3, 4), 4), ops.anchor_grid((3, 4), 4, scale=4)
    centers = [(boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (whole, half)]
    np.testing.assert_allclose(*centers, atol=1e-5)
    np.testing.assert_allclose(whole[:, 2:] - whole[:, :2], 2 * (half[:, 2:] - half[:, :2]))


@pytest.mark.parametrize("level", range(5))
def test_anchors_beyond_the_padded_image_are_not_valid(level):
    recorded = {
        name: array
        for name, array in ANCHORS.items()
        if "valid" in name and name.endswith(f"level{level}")
    }
    names = [name.split("/")[1].removeprefix("valid_") for name in recorded]
    padded = jnp.asarray([[float(n) for n in name.split("x")] for name in names])
    valid = ops.anchor_validity(SIZES[level], STRIDES[level], padded)
    assert len(recorded) == 3
    for ours, theirs in zip(valid, recorded.values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", STDS)
def test_deltas_are_the_recorded_ones(kind):
    stds = STDS[kind]
    priors, targets, deltas = (jnp.asarray(CODER[k]) for k in ("priors", "targets", "deltas"))
    encoded = ops.encode_boxes(priors, targets, stds)
    decoded = ops.decode_boxes(priors, deltas, stds)
    sizes = jnp.asarray([[96.0, 128.0]])
    ours = {
        "encoded": encoded,
        "decoded": decoded,
        "decoded_96x128": ops.clip_boxes(decoded[None], sizes)[0],
        "round": ops.decode_boxes(priors, encoded, stds),
    }
    for name, array in ours.items():
        # Row by row: a few special boxes are a thousand times as large as the others.
        theirs = CODER[f"{kind}/{name}"]
        scale = np.abs(theirs).max(-1, keepdims=True) + 1e-3
        assert (np.abs(array - theirs) / scale).max() < 1e-5, name


def test_deltas_of_one_box_by_hand():
    box, target = jnp.asarray([10.0, 20, 50, 100]), jnp.asarray([14.0, 18, 60, 90])
    encoded = ops.encode_boxes(box, target, STDS["roi"])
    np.testing.assert_allclose(encoded, [1.75, -0.75, 0.6988, -0.5268], atol=1e-4)
    decoded = ops.decode_boxes(box, jnp.asarray([0.5, -0.4, 1, 30]), STDS["roi"])
    clipped = ops.clip_boxes(decoded[None, None], jnp.asarray([[96.0, 128.0]]))[0, 0]
    np.testing.assert_allclose(clipped, [7.5719, 0, 56.4281, 96], atol=1e-3)


def test_each_image_is_clipped_at_its_own_size():
    boxes = jnp.full((2, 3, 5, 4), 1000.0).at[..., :2].set(-5)
    clipped = ops.clip_boxes(boxes, jnp.asarray([[10.0, 20.0], [30.0, 40.0]]))
    np.testing.assert_array_equal(clipped[0], np.broadcast_to([0, 0, 20, 10], (3, 5, 4)))
    np.testing.assert_array_equal(clipped[1], np.broadcast_to([0, 0, 40, 30], (3, 5, 4)))


def test_overlaps_are_the_recorded_ones():
    overlaps = ops.box_iou(jnp.asarray(CODER["targets"]), jnp.asarray(CODER["priors"]))
    assert relative_error(overlaps, CODER["iou"]) < 1e-5


def test_overlaps_of_a_box_with_itself_and_with_nothing():
    boxes = jnp.asarray(random_boxes(0, 2, 6))
    overlaps = ops.box_iou(boxes, boxes)
    np.testing.assert_allclose(jnp.diagonal(overlaps, axis1=1, axis2=2), 1, rtol=1e-6)
    np.testing.assert_array_equal(overlaps, jnp.swapaxes(overlaps, -1, -2))
    empty = jnp.zeros((2, 3, 4))
    np.testing.assert_array_equal(ops.box_iou(boxes, empty), 0)
    np.testing.assert_array_equal(ops.box_iou(empty, empty), 0)


def test_only_boxes_with_both_sides_have_an_area():
    boxes = jnp.asarray([[0.0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 1, 0], [2, 2, 1, 1], [3, 0, 2, 5]])
    np.testing.assert_array_equal(ops.has_area(boxes), [True, False, False, False, False])


def test_deltas_have_gradients():
    boxes, deltas = jnp.asarray(random_boxes(1, 5)), jnp.full((5, 4), 0.1)
    grads = jax.grad(lambda d: ops.decode_boxes(boxes, d, STDS["roi"]).sum())(deltas)
    sides = boxes[:, 2:] - boxes[:, :2]
    np.testing.assert_allclose(grads[:, :2], 2 * 0.1 * sides, rtol=1e-5)
