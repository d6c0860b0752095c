"""RetinaNet: neck, maps, losses, gradients and detections equal to mmdetection's."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cluenet_jax
from cluenet_jax import ops
from cluenet_jax.models.heads.retinanet import focal_loss
from cluenet_jax.models.heads.truths import Truths
from cluenet_jax.weights import from_torch, to_torch
from tests.helpers import dense
from tests.helpers.mask_rcnn import CHANNELS, IMAGE_SIZES, LEVELS
from tests.helpers.models import random_variables
from tests.models.heads.recorded import GRADIENTS, VALUES, assert_close


@pytest.fixture(scope="module")
def case():
    return dense.load_dense("retinanet")


@pytest.fixture(scope="module")
def head():
    sizes = dict(neck_width=24, width=16, eval_candidates=60, max_detections=20)
    return cluenet_jax.create_head("retinanet", (32, 48, 64, 96), 5, **sizes)


def images(case, name):
    return [case[f"image{i}/{name}"] for i in range(2)]


def truths_of(case, slots=4):
    """The recorded truths, in slots of which some are empty."""
    boxes, labels = np.zeros((2, slots, 4), np.float32), np.zeros((2, slots), np.int32)
    valid = np.zeros((2, slots), bool)
    rows = zip(images(case, "truths"), images(case, "labels"), strict=True)
    for i, (own, own_labels) in enumerate(rows):
        boxes[i, : len(own)], labels[i, : len(own)], valid[i, : len(own)] = own, own_labels, True
    return Truths(boxes, labels, valid)


def test_neck_maps_losses_and_gradients_equal_the_reference(case, head):
    variables, levels = dense.variables_of(case, head), dense.levels_of(case)
    sizes, padded = (np.stack(images(case, name)) for name in ("img_shape", "pad_shape"))
    truths = truths_of(case)

    def loss(params, levels):
        inputs = {"params": params}

        def run(head):
            pyramid = head.pyramid(levels)
            logits, deltas = head.bbox_head(pyramid)
            matched = head.match_anchors(pyramid, truths, jnp.asarray(padded, jnp.float32))
            losses = head.losses(levels, truths, sizes, padded)
            return pyramid, logits, deltas, matched, losses

        values = head.apply(inputs, method=run)
        return sum(values[-1].values()), values

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (total, (pyramid, logits, deltas, matched, losses)), grads = run(variables["params"], levels)
    ours = {"loss": total, "class": losses["class"], "box": losses["box"]}
    theirs = {
        "loss": case["loss"], "class": case["loss_cls"].sum(), "box": case["loss_bbox"].sum(),
    }  # fmt: skip
    for i in range(5):
        ours[f"p{i}"], theirs[f"p{i}"] = pyramid[i], case[f"neck/p{i + 3}"]
        ours[f"cls{i}"] = logits[i].reshape(case[f"cls{i}"].shape)
        ours[f"reg{i}"] = deltas[i].reshape(case[f"reg{i}"].shape)
        theirs |= {f"cls{i}": case[f"cls{i}"], f"reg{i}": case[f"reg{i}"]}
    assert_close(ours, theirs, VALUES)
    for i in range(2):
        np.testing.assert_array_equal(matched[i], case[f"assigned{i}"])
    named = dense.gradients_to_torch(variables, grads[0], head)
    assert_close(named, dense.part(case, "grad/"), GRADIENTS)
    levels = {f"level{i}": grad for i, grad in enumerate(grads[1])}
    assert_close(levels, dense.part(case, "grad_input/"), GRADIENTS)
    assert not np.asarray(levels["level0"]).any()


def test_detections_equal_the_reference(case, head):
    variables, levels = dense.variables_of(case, head), dense.levels_of(case)
    sizes = np.stack(images(case, "img_shape"))
    detect = jax.jit(lambda v, x: head.apply(v, x, image_sizes=sizes))
    result = detect(variables, levels)
    for i in range(2):
        factors = np.tile(case[f"image{i}/scale_factor"], 2)
        np.testing.assert_array_equal(result["labels"][i], case[f"test/labels{i}"])
        boxes = np.asarray(result["boxes"][i]) / factors
        np.testing.assert_allclose(boxes, case[f"test/boxes{i}"], rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(result["scores"][i], case[f"test/scores{i}"], rtol=2e-5)
        assert result["valid"][i].all()


def tiny_head(**options):
    sizes = dict(neck_width=6, width=7, eval_candidates=30, max_detections=9)
    return cluenet_jax.create_head("retinanet", CHANNELS, 3, **{**sizes, **options})


def test_empty_slots_change_nothing():
    head = tiny_head()
    variables = random_variables(head, LEVELS)
    boxes = np.array([[[2, 3, 20, 25], [10, 8, 30, 40]]] * 2, np.float32)
    labels, valid = np.array([[0, 2]] * 2, np.int32), np.ones((2, 2), bool)
    filled = Truths(
        np.pad(boxes, ((0, 0), (0, 3), (0, 0)), constant_values=7.0),
        np.pad(labels, ((0, 0), (0, 3))),
        np.pad(valid, ((0, 0), (0, 3))),
    )
    run = jax.jit(lambda t: head.apply(variables, LEVELS, t, IMAGE_SIZES, method="losses"))
    chex.assert_trees_all_close(run(Truths(boxes, labels, valid)), run(filled), rtol=1e-6)
    nothing = run(Truths(boxes, labels, ~valid))
    assert nothing["box"] == 0 and nothing["class"] > 0


def test_no_kept_box_overlaps_a_better_one_of_its_class():
    head = tiny_head(score_threshold=0.0)
    result = jax.jit(lambda x: head.apply(random_variables(head, LEVELS), x))(LEVELS)
    names = ("boxes", "labels", "scores", "valid")
    boxes, labels, scores, valid = (np.asarray(result[name]) for name in names)
    assert (np.diff(scores, axis=1) <= 0).all() and valid.sum() >= 6
    overlaps = np.asarray(ops.box_iou(boxes, boxes))
    same = labels[:, :, None] == labels[:, None]
    same &= valid[:, :, None] & valid[:, None]
    assert (overlaps * np.triu(same, 1)).max() <= 0.5


def test_focal_loss_is_the_published_formula():
    logits = np.linspace(-4, 4, 9, dtype=np.float32)
    probability = 1 / (1 + np.exp(-logits))
    right = -0.25 * (1 - probability) ** 2 * np.log(probability)
    wrong = -0.75 * probability**2 * np.log(1 - probability)
    np.testing.assert_allclose(focal_loss(logits, np.ones(9, bool)), right, rtol=1e-5)
    np.testing.assert_allclose(focal_loss(logits, np.zeros(9, bool)), wrong, rtol=1e-5)


def test_weights_come_back_and_parameters_are_the_published_ones():
    head = tiny_head()
    variables = random_variables(head, LEVELS)
    chex.assert_trees_all_equal(from_torch(to_torch(variables, head), head), variables)
    for backbone, total in (("clustr_b1", 21_403_005), ("clustr_b2", 32_411_529)):
        own = cluenet_jax.create_backbone(backbone)
        published = cluenet_jax.create_head("retinanet", own.channels, 80)
        images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
        levels = tuple(jax.ShapeDtypeStruct((1, 8, 8, c), jnp.float32) for c in own.channels)
        shapes = [
            jax.eval_shape(module.init, jax.random.key(0), inputs)["params"]
            for module, inputs in ((own, images), (published, levels))
        ]
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == total


def test_wrong_options_say_what_would_be_right():
    with pytest.raises(ValueError, match="width=0 must be at least 1"):
        tiny_head(width=0)
    with pytest.raises(ValueError, match="score_threshold=1.0 must be at least 0 and below 1"):
        tiny_head(score_threshold=1.0)
