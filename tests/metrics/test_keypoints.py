"""Metrics of poses: COCO-WholeBody's recorded case, and laws of the similarity."""

import json

import numpy as np
import pytest

from cluenet_jax.data.instances import padded_text
from cluenet_jax.data.skeletons import WHOLE_BODY
from cluenet_jax.metrics.coco import POSE_METRICS
from cluenet_jax.metrics.keypoints import (
    PoseEvaluator,
    Selection,
    keep_distinct,
    object_similarity,
    place_points,
    pose_scores,
)
from tests.helpers import dense

CROP = (256, 192)


@pytest.fixture(scope="module")
def codec():
    return dense.part(dense.load_dense("pose_codec"), "oks/")


def test_similarity_equals_the_reference(codec):
    points = codec["keypoints"][..., :2]
    ours = object_similarity(points, codec["areas"], WHOLE_BODY.sigmas)
    np.testing.assert_allclose(ours, codec["matrix"], atol=1e-6)
    np.testing.assert_allclose(np.diag(ours), 1)


@pytest.mark.parametrize("threshold", [0.9, 0.5, 0.1])
def test_the_same_poses_are_kept_as_by_the_reference(codec, threshold):
    kept = keep_distinct(
        codec["keypoints"][..., :2], codec["scores"], codec["areas"], WHOLE_BODY.sigmas, threshold
    )
    np.testing.assert_array_equal(kept, codec[f"keep_{threshold}"])


def test_no_kept_pose_is_too_similar_to_a_better_one():
    rng = np.random.default_rng(0)
    sigmas = np.full(4, 0.07)
    for _ in range(20):
        points = rng.normal(0, 6, (30, 4, 2))
        scores, areas = rng.random(30).round(1), rng.uniform(500, 2000, 30)
        kept = keep_distinct(points, scores, areas, sigmas, 0.5)
        similarity = object_similarity(points, areas, sigmas)
        assert (np.diff(scores[kept]) <= 0).all()
        assert (np.triu(similarity[np.ix_(kept, kept)], 1) <= 0.5).all()
        for left in set(range(30)) - {*kept.tolist()}:
            better = [k for k in kept if scores[k] >= scores[left]]
            assert similarity[left, better].max() > 0.5


def test_scores_count_sure_keypoints_alone():
    scores = pose_scores([0.5, 1.0, 0.8], [[0.1, 0.2, 0.4], [0.9, 0.5, 0.1], [0.1, 0, 0.2]], 0.2)
    np.testing.assert_allclose(scores, [0.5 * 0.4, 0.7, 0.0])


def as_batch(count, indices, texts, **fields):
    """A batch for the evaluator; crops that are the image itself."""
    return {
        "valid": np.ones(count, bool),
        "image_index": np.asarray(indices),
        "center": np.tile([CROP[1] / 2, CROP[0] / 2], (count, 1)),
        "factor": np.ones(count),
        "area": np.ones(count),
        "box_score": np.full(count, -1.0),
        "own": np.zeros((count, 3 * len(WHOLE_BODY))),
        "height": np.ones(count),
        "truth": np.stack([padded_text(text) for text in texts]),
        **fields,
    }


def evaluator():
    return PoseEvaluator(WHOLE_BODY.sigmas, WHOLE_BODY.parts, CROP, Selection())


@pytest.fixture(scope="module")
def recorded():
    """The evaluator of the recorded case, in batches of any order."""
    case, result = dense.load_dense("wholebody"), evaluator()
    truth = dense.part(case, "gt/")
    ids = truth["images"].tolist()
    names = ("keypoints", "bbox", "area", "iscrowd")
    texts = []
    for image in ids:
        rows = np.flatnonzero(truth["image_id"] == image)
        texts.append(json.dumps([{n: truth[n][row].tolist() for n in names} for row in rows]))
    longest = max(map(len, texts))
    nothing = {"points": np.zeros((len(ids), 133, 2)), "scores": np.zeros((len(ids), 133))}
    texts = [text.ljust(longest) for text in texts]
    count = len(case["id"])
    indices = [ids.index(image) for image in case["image_id"]]
    fields = {"area": case["scales"].prod(1), "box_score": case["box_scores"]}
    predictions = {"points": case["keypoints"][..., :2], "scores": case["scores"]}
    result.add(predictions, as_batch(count, indices, [""] * count, **fields))
    result.add(nothing, as_batch(len(ids), range(len(ids)), texts))
    return case, indices, result


def test_kept_poses_and_scores_equal_the_reference(recorded):
    case, indices, result = recorded
    rows = {}
    for row, index in enumerate(indices):
        rows.setdefault(index, []).append(case["id"][row])
    ours = {int(rows[index][number]): score for index, number, score in result.detections()}
    assert sorted(ours) == sorted(case["kept_id"].tolist())
    for key, score in zip(case["kept_id"].tolist(), case["kept_score"], strict=True):
        assert ours[key] == pytest.approx(score, rel=1e-12)


def test_whole_body_metrics_equal_the_reference(recorded):
    case, _, result = recorded
    metrics = result.compute()
    for row, part in enumerate(["body_", "foot_", "face_", "left_hand_", "right_hand_", ""]):
        ours = [metrics[f"{part}{name}"] for name in POSE_METRICS]
        np.testing.assert_allclose(ours, case["stats"][row], atol=1e-12)
    assert metrics["count"] == 52 and metrics["pck"] == -1
    text = result.to_text()
    assert "boxes 52, images 6" in text and f"whole {metrics['ap']:18.2%}".split()[1] in text


def test_truths_as_poses_are_all_right():
    points = np.random.default_rng(0).uniform(20, 180, (3, 133, 2))
    keypoints = np.concatenate([points, np.full((3, 133, 1), 2)], 2).reshape(3, -1)
    person = dict(area=20000.0, bbox=[10, 10, 180, 200], iscrowd=0)
    texts = [json.dumps([{"keypoints": row.tolist(), **person}]) for row in keypoints]
    longest = max(map(len, texts))
    fields = dict(box_score=np.ones(3), own=keypoints, height=np.full(3, 200.0))
    batch = as_batch(3, [0, 1, 2], [text.ljust(longest) for text in texts], **fields)
    result = evaluator()
    result.add({"points": points, "scores": np.ones((3, 133))}, batch)
    metrics = result.compute()
    parts = ["", *(f"{name}_" for name, _, _ in WHOLE_BODY.parts)]
    assert all(metrics[f"{part}ap"] == 1 for part in parts)
    assert metrics["pck"] == 1 and "100.00% of keypoints" in result.to_text()
    with pytest.raises(ValueError, match="truth of image 0 is added twice"):
        result.add({"points": points, "scores": np.ones((3, 133))}, batch)


def test_points_of_a_crop_come_back_to_the_image():
    points = place_points(
        np.array([[[96, 128], [0, 0]]]), np.array([[50.0, 70]]), [0.5], [192, 256]
    )
    np.testing.assert_allclose(points, [[[50, 70], [2, 6]]])
