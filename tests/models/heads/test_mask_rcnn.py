"""Mask R-CNN: every stage equal to mmdetection's, with slots instead of lists."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cluenet_jax
from cluenet_jax import ops
from cluenet_jax.models.heads import roi_box
from cluenet_jax.models.heads.mask_rcnn import LossSamples, match_candidates
from cluenet_jax.models.heads.rpn import Proposals
from cluenet_jax.models.heads.truths import Truths
from tests.helpers import dense
from tests.helpers.golden import relative_error
from tests.models.heads.recorded import GRADIENTS, VALUES, assert_close

CASES = ("maskrcnn_even", "maskrcnn_odd")
# From the levels to detections: proposals are rounded in the seventh digit, of which a head's
# scores feel ten times as much. The reference's own scores in float32 and float64 differ by 1.2e-5.
END_TO_END = 3e-5
# As recorded; the second case keeps the best 12 of its detections.
CONFIG = dict(
    neck_width=16,
    rpn_width=20,
    box_width=32,
    mask_width=16,
    rpn_samples=64,
    roi_samples=32,
    train_candidates=300,
    train_proposals=80,
    eval_candidates=200,
    eval_proposals=60,
)


def recorded_head(name, **options):
    best = {"maskrcnn_even": 100, "maskrcnn_odd": 12}[name]
    options = {**CONFIG, "max_detections": best, **options}
    return cluenet_jax.create_head("mask_rcnn", (32, 48, 64, 96), 5, **options)


@functools.cache
def load(name):
    """The case, its head, variables and levels."""
    case, head = dense.load_dense(name), recorded_head(name)
    return case, head, dense.variables_of(case, head), dense.levels_of(case)


def both(case, name):
    """An array of each image, stacked."""
    return np.stack([case[name.replace("#", str(i))] for i in range(2)])


def in_slots(arrays, count):
    """Arrays of different lengths, filled up with zeros."""
    padded = [np.pad(a, [(0, count - len(a)), *[(0, 0)] * (a.ndim - 1)]) for a in arrays]
    return np.stack(padded)


def truths_of(case, slots):
    names = ("truths", "labels", "bitmaps")
    boxes, labels, bitmaps = ([case[f"image{i}/{n}"] for i in range(2)] for n in names)
    counts = np.asarray([[len(b)] for b in boxes])
    valid = np.arange(slots) < counts
    return Truths(in_slots(boxes, slots), in_slots(labels, slots), valid, in_slots(bitmaps, slots))


def samples_of(positives, negatives, slots):
    index = [np.concatenate(pair) for pair in zip(positives, negatives, strict=True)]
    counts = np.asarray([[len(p), len(i)] for p, i in zip(positives, index, strict=True)])
    place = np.arange(slots)
    return ops.Samples(
        in_slots(index, slots).astype(np.int32), place < counts[:, :1], place < counts[:, 1:]
    )


def recorded_samples(case, truth_slots, slots=(64, 32)):
    """The recorded draws; proposals follow the slots of the truths here, the truths there."""
    draws = []
    for kind, count in zip(("rpn", "roi"), slots, strict=True):
        draw = [[case[f"{kind}/{sign}{i}"] for i in range(2)] for sign in ("positive", "negative")]
        if kind == "roi":
            for sign in draw:
                for i in range(2):
                    truths = len(case[f"image{i}/truths"])
                    sign[i] = np.where(sign[i] < truths, sign[i], sign[i] - truths + truth_slots)
        draws.append(samples_of(*draw, count))
    return LossSamples(*draws)


def apply(head, variables, method, *inputs):
    return jax.jit(lambda v, *a: head.apply(v, *a, method=method))(variables, *inputs)


@pytest.mark.parametrize("name", CASES)
def test_neck_and_proposals_equal_the_reference(name):
    case, head, variables, levels = load(name)
    sizes = both(case, "image#/img_shape")

    def stages(head, levels, sizes):
        pyramid = head.pyramid(levels)
        outputs = head.rpn_head(pyramid)
        modes = (("test", False), ("train", True))
        sizes = jnp.asarray(sizes, jnp.float32)
        proposals = {k: head.propose(pyramid, outputs, sizes, mode) for k, mode in modes}
        return pyramid, outputs, proposals

    pyramid, outputs, proposals = apply(head, variables, stages, levels, sizes)
    ours = {f"neck/p{i}": level for i, level in enumerate(pyramid, 2)}
    for i, (level, output) in enumerate(zip(pyramid, outputs, strict=True)):
        ours[f"rpn/cls{i}"] = output.objectness.reshape(*level.shape[:3], 3)
        ours[f"rpn/reg{i}"] = output.deltas.reshape(*level.shape[:3], 12)
    for mode, result in proposals.items():
        assert result.valid.all()
        for i in range(2):
            ours[f"{mode}/proposals{i}"] = result.boxes[i]
            ours[f"{mode}/proposal_scores{i}"] = result.scores[i]
    theirs = {k: v for k, v in case.items() if k in ours}
    assert len(theirs) >= len(ours) - 2 and "test/proposals1" in theirs and "neck/p6" in theirs
    assert_close(ours, theirs, VALUES)


@pytest.mark.parametrize("name", CASES)
def test_box_and_mask_heads_equal_the_reference_on_given_boxes(name):
    case, head, variables, levels = load(name)
    rois = case["given/rois"]
    images, places = rois[:, 0].astype(int), np.arange(len(rois))
    slots = np.zeros((2, len(rois), 4), np.float32)
    slots[images, places] = rois[:, 1:]
    np.testing.assert_array_equal(ops.box_levels(rois[:, 1:], 4), case["given/level"])
    labels = np.broadcast_to(places % 5, (2, len(rois))).astype(np.int32)

    def stages(head, levels, boxes, labels):
        pyramid = head.pyramid(levels)
        return head.describe_boxes(pyramid, boxes), head.draw_masks(pyramid, boxes, labels)

    output, masks = apply(head, variables, stages, levels, slots, labels)
    ours = {
        "given/cls": output.logits[images, places],
        "given/reg": output.deltas[images, places].reshape(-1, 20),
        "given/mask_logits_first8": masks[images, places][:8],
    }
    assert_close(ours, {k: case[k] for k in ours}, VALUES)


@pytest.mark.parametrize("name", CASES)
def test_detections_equal_the_reference(name):
    case, head, variables, levels = load(name)
    sizes = both(case, "image#/img_shape")
    ours = jax.jit(functools.partial(head.apply, train=False))(
        variables, levels, image_sizes=jnp.asarray(sizes)
    )
    chex.assert_shape(ours["boxes"], (2, head.max_detections, 4))
    chex.assert_shape(ours["mask_logits"], (2, head.max_detections, 28, 28))
    for i in range(2):
        count = len(case[f"test/labels{i}"])
        np.testing.assert_array_equal(ours["valid"][i], np.arange(head.max_detections) < count)
        np.testing.assert_array_equal(ours["labels"][i, :count], case[f"test/labels{i}"])
        assert_close(
            {k: ours[k][i, :count] for k in ("boxes", "scores")},
            {k: case[f"test/{k}{i}"] for k in ("boxes", "scores")},
            END_TO_END,
        )
        masks = jax.nn.sigmoid(ours["mask_logits"][i, :6])
        assert relative_error(masks, case[f"test/mask_probability{i}"]) < END_TO_END
        for k in ("boxes", "scores", "labels"):
            assert not np.asarray(ours[k])[i, count:].any()


def per_image(rois):
    """`[R, 5]` of image and box, equally many of each image in order, to `[2, R / 2, 4]`."""
    np.testing.assert_array_equal(rois[:, 0], np.repeat([0, 1], len(rois) // 2))
    return rois[:, 1:].reshape(2, -1, 4)


@pytest.mark.parametrize("name", CASES)
def test_detections_of_the_recorded_proposals_equal_the_reference(name):
    case, head, variables, levels = load(name)
    boxes, scores = both(case, "test/proposals#"), both(case, "test/proposal_scores#")
    proposals = Proposals(boxes, scores, np.ones(scores.shape, bool))
    final = in_slots([case[f"test/boxes{i}"][:6] for i in range(2)], 6)
    labels = in_slots([case[f"test/labels{i}"][:6] for i in range(2)], 6)

    def stages(head, levels, proposals, sizes, boxes, labels):
        pyramid = head.pyramid(levels)
        output = head.describe_boxes(pyramid, proposals.boxes)
        detections = roi_box.detect(output, proposals, sizes, 0.05, head.max_detections)
        return output, detections, head.draw_masks(pyramid, boxes, labels)

    sizes = np.float32(both(case, "image#/img_shape"))
    inputs = (levels, proposals, sizes, final, labels)
    output, detections, masks = apply(head, variables, stages, *inputs)
    ours = {
        "test/cls": output.logits.reshape(-1, 6),
        "test/reg": output.deltas.reshape(-1, 20),
    }
    for i in range(2):
        count = len(case[f"test/labels{i}"])
        ours[f"test/boxes{i}"] = detections.boxes[i, :count]
        ours[f"test/scores{i}"] = detections.scores[i, :count]
        ours[f"test/mask_probability{i}"] = jax.nn.sigmoid(masks[i])
    assert_close(ours, {k: case[k] for k in ours}, VALUES)


@pytest.mark.parametrize("name", CASES)
def test_heads_on_the_recorded_samples_equal_the_reference(name):
    case, head, variables, levels = load(name)
    rois = per_image(case["roi/rois"])
    np.testing.assert_array_equal(ops.box_levels(rois, 4).ravel(), case["roi/level"])
    output = apply(head, variables, lambda m, x, r: m.describe_boxes(m.pyramid(x), r), levels, rois)
    ours = {"roi/cls": output.logits, "roi/reg": output.deltas}
    ours = {k: np.reshape(v, case[k].shape) for k, v in ours.items()}
    features = apply(
        head,
        variables,
        lambda m, x, r: ops.roi_align(m.pyramid(x)[:-1], r, (4, 8, 16, 32), 7),
        levels,
        rois,
    )
    ours["roi/features_every8"] = features.reshape(-1, 7, 7, 16)[::8]
    assert_close(ours, {k: case[k] for k in ours}, VALUES)


@pytest.mark.parametrize("name", CASES)
def test_masks_of_the_recorded_samples_equal_the_reference(name):
    case, head, variables, levels = load(name)
    truths = truths_of(case, 6)
    rois = [case["mask/rois"][case["mask/rois"][:, 0] == i, 1:] for i in range(2)]
    index = [case[f"roi/positive_truth{i}"] for i in range(2)]
    labels = [case[f"image{i}/labels"][index[i]] for i in range(2)]
    counts = [len(r) for r in rois]
    rois, index, labels = (in_slots(arrays, 8) for arrays in (rois, index, labels))

    def stages(head, levels, rois, labels):
        targets = ops.mask_targets(truths.bitmaps, rois, index, 28)
        return targets, head.draw_masks(head.pyramid(levels), rois, labels)

    targets, logits = apply(head, variables, stages, levels, rois, labels)
    targets, logits = (
        np.concatenate([array[i, : counts[i]] for i in range(2)]) for array in (targets, logits)
    )
    assert_close({"mask/logits": logits}, {"mask/logits": case["mask/logits"]}, VALUES)
    # The reference's own targets in float32 and float64 differ by 6.5e-5.
    assert relative_error(targets, case["mask/targets_soft"]) < 3e-5
    different = (targets >= 0.5) != case["mask/targets"].astype(bool)
    assert different.mean() < 1e-3


@pytest.mark.parametrize("name", CASES)
def test_matches_equal_the_reference(name):
    case, head, variables, levels = load(name)
    truths = truths_of(case, 6)
    padded = both(case, "image#/pad_shape")

    def matches(head, levels, padded):
        pyramid = head.pyramid(levels)
        return head.match_anchors(pyramid, truths, padded)

    assigned = both(case, "rpn/assigned#")
    np.testing.assert_array_equal(apply(head, variables, matches, levels, padded), assigned)
    boxes = both(case, "train/proposals#")
    proposals = Proposals(boxes, boxes[..., 0], np.ones(boxes.shape[:2], bool))
    ours = jax.jit(match_candidates)(truths, proposals, head.roi_thresholds)
    np.testing.assert_array_equal(ours[:, 6:], both(case, "roi/assigned_proposals#"))
    np.testing.assert_array_equal(ours[:, :6], np.where(truths.valid, np.arange(1, 7), -2))


@pytest.mark.parametrize("name", CASES)
def test_losses_and_gradients_equal_the_reference(name):
    case, head, variables, levels = load(name)
    truths, samples = truths_of(case, 6), recorded_samples(case, 6)

    @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def run(params, levels):
        losses = head.apply(
            {"params": params},
            levels,
            truths,
            image_sizes=both(case, "image#/img_shape"),
            padded_sizes=both(case, "image#/pad_shape"),
            samples=samples,
            method="losses",
        )
        return sum(losses.values()), losses

    (total, ours), grads = jax.jit(run)(variables["params"], levels)
    theirs = {
        "rpn_objectness": case["rpn/loss_cls"].sum(),
        "rpn_box": case["rpn/loss_bbox"].sum(),
        "class": case["roi/loss_cls"],
        "box": case["roi/loss_bbox"],
        "mask": case["mask/loss"],
        "loss": case["loss"],
    }
    assert_close({**ours, "loss": total}, theirs, VALUES)
    named = dense.gradients_to_torch(variables, grads[0], head)
    recorded = dense.part(case, "grad/")
    assert named.keys() == recorded.keys()
    assert_close(named, recorded, GRADIENTS)
    inputs = {f"level{i}": grad for i, grad in enumerate(grads[1])}
    assert_close(inputs, dense.part(case, "grad_input/"), GRADIENTS)
