"""Mask R-CNN of any size: slots, options, types and devices."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cluenet_jax import ops
from cluenet_jax.models.heads.mask_rcnn import LossSamples
from cluenet_jax.models.heads.roi_mask import mask_loss
from cluenet_jax.models.heads.truths import Truths
from cluenet_jax.train.sharding import AXIS, make_mesh
from tests.helpers import dense
from tests.helpers.golden import relative_error
from tests.helpers.mask_rcnn import IMAGE_SIZES, LEVELS, tiny_head, variables_of
from tests.ops.test_partitioning import collectives, placed, significant

LOSSES = {"rpn_objectness", "rpn_box", "class", "box", "mask"}


def truths(slots=3):
    """Two objects in the first image, one in the second."""
    boxes = np.zeros((2, slots, 4), np.float32)
    boxes[0, :2] = [[4, 5, 30, 28], [20, 2, 48, 20]]
    boxes[1, :1] = [[3, 8, 25, 33]]
    labels = np.zeros((2, slots), np.int32)
    labels[0, :2], labels[1, 0] = (2, 1), 2
    valid = np.arange(slots) < np.asarray([[2], [1]])
    bitmaps = np.zeros((2, slots, 36, 56), bool)
    bitmaps[:, :, 8:25, 6:33] = valid[..., None, None]
    return Truths(boxes, labels, valid, np.packbits(bitmaps, axis=-1))


@functools.cache
def programs(head):
    """The losses alone, and the gradients of their sum."""

    def losses(params, truths, key, samples):
        given = dict(image_sizes=IMAGE_SIZES, key=key, samples=samples)
        return head.apply({"params": params}, LEVELS, truths, **given, method="losses")

    def total(params, truths, key):
        values = losses(params, truths, key, None)
        return sum(values.values()), values

    return jax.jit(losses), jax.jit(jax.grad(total, has_aux=True))


def losses_of(head, truths, key=None, samples=None):
    return programs(head)[0](variables_of(head)["params"], truths, key, samples)


def gradients_of(head, truths, key):
    """Gradients, and the losses."""
    return programs(head)[1](variables_of(head)["params"], truths, key)


@functools.cache
def detect(head):
    return jax.jit(head.apply)(variables_of(head), LEVELS, image_sizes=IMAGE_SIZES)


def test_detections_lie_in_their_image_by_falling_score():
    head = tiny_head()
    found = detect(head)
    chex.assert_shape(found["boxes"], (2, 7, 4))
    chex.assert_shape(found["mask_logits"], (2, 7, 28, 28))
    chex.assert_type(found["boxes"], jnp.float32)
    chex.assert_type(found["labels"], jnp.int32)
    assert found["valid"].any() and (np.diff(found["scores"]) <= 0).all()
    assert (found["scores"][found["valid"]] > head.score_threshold).all()
    assert ((found["labels"] >= 0) & (found["labels"] < 3)).all()
    ends = IMAGE_SIZES[:, None, ::-1]
    assert (found["boxes"] >= 0).all() and (found["boxes"][..., 2:] <= ends).all()
    for boxes, labels, valid in zip(*(found[k] for k in ("boxes", "labels", "valid")), strict=True):
        overlaps = np.triu(ops.box_iou(boxes, boxes), 1)[np.ix_(valid, valid)]
        same = np.equal.outer(*[np.asarray(labels)[valid]] * 2)
        assert (overlaps[same] <= 0.5 + 1e-6).all()


def test_small_anchors_are_matched_with_small_objects():
    """Of the published scale none overlaps an object of 6 pixels enough."""
    boxes = np.asarray([[[10, 12, 16, 18]], [[30, 4, 36, 10]]], np.float32)
    small = Truths(boxes, np.zeros((2, 1), np.int32), np.ones((2, 1), bool))

    def positives(scale):
        head = tiny_head(anchor_scale=scale)
        pyramid = (*LEVELS, LEVELS[-1][:, ::2, ::2])
        matched = head.clone(parent=None).match_anchors(pyramid, small, IMAGE_SIZES)
        return (np.asarray(matched) > 0).sum(-1)

    assert not positives(8).any() and positives(2).all()


def test_slots_that_nothing_was_detected_for_are_zeros():
    found = detect(tiny_head(max_detections=500))
    assert 7 < found["valid"].sum() < 500
    for name in ("boxes", "scores", "labels"):
        assert not np.asarray(found[name])[~found["valid"]].any()
    fewer = detect(tiny_head())
    for name in ("boxes", "scores", "labels", "mask_logits"):
        assert relative_error(found[name][:, :7], fewer[name]) < 1e-5, name
    nothing = detect(tiny_head(score_threshold=0.999999))
    assert not nothing["valid"].any() and not nothing["boxes"].any()


def test_more_slots_of_proposals_than_boxes_change_nothing():
    plenty = dict(eval_candidates=1000, eval_proposals=1000)
    all_of_them = detect(tiny_head(**plenty))
    more = detect(tiny_head(**{**plenty, "eval_proposals": 1050}))
    for name in all_of_them:
        assert relative_error(more[name], all_of_them[name]) < 1e-5, name


def test_without_sizes_images_fill_the_canvas():
    head = tiny_head()
    apply = jax.jit(head.apply)
    canvas = np.asarray([[36, 56]] * 2)
    sized = apply(variables_of(head), LEVELS, image_sizes=canvas)
    chex.assert_trees_all_equal(apply(variables_of(head), LEVELS), sized)


def test_empty_slots_of_truths_change_no_loss():
    head = tiny_head()
    matched = np.asarray([[0, 1], [0, 0]])
    # The first two anchors, and of the candidates the truths and a proposal.
    anchors = ops.Samples(np.asarray([[0, 5], [7, 9]]), matched > 0, np.ones((2, 2), bool))
    results = []
    for slots in (2, 6):
        given = truths(slots)
        noise = np.where(given.valid[..., None], given.boxes, [3, 3, 40, 30]).astype(np.float32)
        noise = np.where(given.valid[..., None] | (np.arange(slots) % 2 == 0)[:, None], noise, 0)
        given = given._replace(boxes=noise)
        index = np.asarray([[0, 1, slots + 3], [0, slots + 1, slots + 2]])
        positive = np.asarray([[True, True, False], [True, False, False]])
        rois = ops.Samples(index, positive, np.ones((2, 3), bool))
        results.append(losses_of(head, given, samples=LossSamples(anchors, rois)))
    chex.assert_trees_all_close(*results, rtol=1e-5)
    assert all(value > 0 for value in results[0].values())


def test_unused_slots_of_samples_change_no_loss():
    head = tiny_head()
    positive = np.asarray([[True, False], [False, False]])
    used = ops.Samples(np.asarray([[0, 8], [6, 7]]), positive, np.ones((2, 2), bool))
    garbage = np.asarray([[3, 1, 12], [9, 2, 0]])
    more = ops.Samples(
        *(
            np.concatenate([a, b], axis=1)
            for a, b in zip(
                used, (garbage, np.zeros((2, 3), bool), np.zeros((2, 3), bool)), strict=True
            )
        )
    )
    few = losses_of(head, truths(), samples=LossSamples(used, used))
    many_slots = losses_of(head, truths(), samples=LossSamples(more, more))
    chex.assert_trees_all_close(few, many_slots, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_parameter_learns(dtype):
    grads, losses = gradients_of(tiny_head(dtype=dtype), truths(), jax.random.key(0))
    assert losses.keys() == LOSSES
    chex.assert_type([*losses.values()], jnp.float32)
    chex.assert_tree_all_finite(grads)
    assert all(np.abs(grad).max() > 0 for grad in jax.tree.leaves(grads))
    # The samples of the other losses depend on proposals, which rounding reorders.
    _, exact = gradients_of(tiny_head(), truths(), jax.random.key(0))
    for name in ("rpn_objectness", "rpn_box"):
        assert relative_error(losses[name], exact[name]) < 0.05


def test_samples_are_drawn_by_the_key():
    head = tiny_head()
    first, again, other = (losses_of(head, truths(), jax.random.key(i)) for i in (0, 0, 1))
    chex.assert_trees_all_equal(first, again)
    assert first["rpn_objectness"] != other["rpn_objectness"] and first["class"] != other["class"]


def test_images_without_objects_have_finite_losses_and_gradients():
    nothing = truths()
    nothing = nothing._replace(valid=np.zeros_like(nothing.valid))
    grads, losses = gradients_of(tiny_head(), nothing, jax.random.key(0))
    chex.assert_tree_all_finite(grads)
    assert losses["rpn_box"] == losses["box"] == losses["mask"] == 0
    assert losses["rpn_objectness"] > 0 and losses["class"] > 0


def test_a_mask_is_learned_from_positive_boxes_alone():
    logits, targets = dense.normal((1, 3, 4, 4), 0), np.full((1, 3, 4, 4), 0.5, np.float32)
    positive = np.asarray([[True, False, False]])
    expected = np.log1p(np.exp(-logits[0, 0])).mean()
    np.testing.assert_allclose(mask_loss(logits, targets, positive), expected, rtol=1e-6)
    below = mask_loss(logits, np.nextafter(targets, np.float32(0)), positive)
    np.testing.assert_allclose(below, np.log1p(np.exp(logits[0, 0])).mean(), rtol=1e-6)


def test_without_masks_it_is_faster_rcnn():
    head = tiny_head(masks=False)
    assert variables_of(head)["params"].keys() == {"neck", "rpn_head", "box_head"}
    with_masks = {"params": {**variables_of(tiny_head())["params"]}}
    del with_masks["params"]["mask_head"]
    boxes = jax.jit(head.apply)(with_masks, LEVELS, image_sizes=IMAGE_SIZES)
    assert "mask_logits" not in boxes
    same = detect(tiny_head())
    chex.assert_trees_all_close(boxes, {k: same[k] for k in boxes}, atol=1e-5)
    assert head.roi_thresholds == ops.Thresholds(0.5, 0.5, None)
    given = truths()._replace(bitmaps=None)
    assert losses_of(head, given, jax.random.key(0)).keys() == LOSSES - {"mask"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(box_width=0), "box_width=0 must be at least 1"),
        (dict(max_detections=0), "max_detections=0 must be at least 1"),
        (dict(rpn_samples=1), "rpn_samples=1 must be at least 2"),
        (dict(roi_samples=3), "roi_samples=3 must be at least 4"),
        (dict(stride=0), "stride=0 must be at least 1"),
        (dict(score_threshold=1.0), "score_threshold=1.0 must be at least 0 and below 1"),
        (dict(mask=False), "head mask_rcnn: .*'mask'"),
    ],
)
def test_wrong_options_say_what_would_be_right(options, message):
    with pytest.raises(ValueError, match=message):
        tiny_head(**options)


def test_wrong_inputs_of_losses_say_what_would_be_right():
    head, key = tiny_head(), jax.random.key(0)
    with pytest.raises(ValueError, match="either a key or samples"):
        losses_of(head, truths())
    with pytest.raises(ValueError, match="bitmaps; or say masks=False"):
        losses_of(head, truths()._replace(bitmaps=None), key)
    with pytest.raises(ValueError, match="levels have the shapes"):
        head.apply(variables_of(head), LEVELS[::-1], truths(), key=key, method="losses")


def test_devices_exchange_gradients_and_scalars_only():
    head, mesh, batch = tiny_head(), make_mesh(), 4

    def split(shape, dtype=jnp.float32):
        return placed(mesh, (batch, *shape[1:]), dtype, AXIS)

    variables = jax.tree.map(lambda leaf: placed(mesh, leaf.shape), variables_of(head))
    levels = tuple(split(level.shape) for level in LEVELS)
    given = Truths(*(split(a.shape, a.dtype) for a in truths()))
    sizes = split((batch, 2))

    def total(variables, levels, given, sizes, seed):
        key = jax.random.key(seed)
        losses = head.apply(variables, levels, given, sizes, key=key, method="losses")
        return sum(losses.values())

    gradient = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))
    text = gradient.lower(variables, levels, given, sizes, placed(mesh, (), jnp.int32))
    exchanged = collectives(text.compile().as_text())
    parameters = {significant(leaf.shape) for leaf in jax.tree.leaves(variables)}
    assert exchanged, "gradients are summed over devices"
    assert all(kind == "all-reduce" and s in {*parameters, ()} for kind, s in exchanged)
    detect = jax.jit(lambda v, x, sizes: head.apply(v, x, image_sizes=sizes))
    exchanged = collectives(detect.lower(variables, levels, sizes).compile().as_text())
    assert set(exchanged) <= {("all-reduce", ())}
