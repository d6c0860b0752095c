"""Metrics of segmentation: the recorded cases, sums over batches, absent classes."""

import json

import numpy as np
import pytest

from cluenet_jax.metrics.segmentation import SegmentationEvaluator
from tests.helpers.golden import DATA

CLASSES = {"a": 7, "b": 150}


@pytest.fixture(scope="module")
def recorded():
    with np.load(DATA / "dense" / "seg_metrics.npz") as file:
        return dict(file)


def count(prediction: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    matrix = np.zeros((classes, classes), np.int32)
    counted = label != 255
    np.add.at(matrix, (label[counted], prediction[counted]), 1)
    return matrix


def evaluator_of(classes: int) -> SegmentationEvaluator:
    return SegmentationEvaluator(tuple(f"class {i}" for i in range(classes)))


def evaluate(recorded: dict, case: str) -> SegmentationEvaluator:
    """One image per batch, beside one that only fills the batch up."""
    evaluator = evaluator_of(CLASSES[case])
    number = 0
    while f"{case}/label{number}" in recorded:
        images = (recorded[f"{case}/{kind}{number}"] for kind in ("prediction", "label"))
        confusion = count(*images, CLASSES[case])
        predictions = {"confusion": np.stack([confusion, confusion]), "loss": np.array([2.0, 7.0])}
        evaluator.add(predictions, {"valid": np.array([True, False])})
        number += 1
    assert evaluator.compute()["count"] == number > 1
    return evaluator


@pytest.mark.parametrize("case", CLASSES)
def test_the_recorded_metrics(recorded, case):
    evaluator = evaluate(recorded, case)
    metrics = evaluator.compute()
    for ours, theirs in (("miou", "mIoU"), ("macc", "mAcc"), ("aacc", "aAcc")):
        np.testing.assert_allclose(metrics[ours], recorded[f"{case}/{theirs}"], rtol=1e-12)
    np.testing.assert_allclose(evaluator.class_iou(), recorded[f"{case}/IoU"], rtol=1e-12)
    np.testing.assert_allclose(evaluator.class_accuracy(), recorded[f"{case}/Acc"], rtol=1e-12)
    confusion = evaluator.confusion
    np.testing.assert_array_equal(confusion.diagonal(), recorded[f"{case}/intersection"])
    np.testing.assert_array_equal(confusion.sum(0), recorded[f"{case}/predicted"])
    np.testing.assert_array_equal(confusion.sum(1), recorded[f"{case}/labelled"])
    printed = [round(100 * metrics[name], 2) for name in ("aacc", "miou", "macc")]
    np.testing.assert_allclose(printed, recorded[f"{case}/printed"], atol=1e-5)


def test_absent_classes_are_in_no_mean(recorded):
    evaluator = evaluate(recorded, "a")
    iou, accuracy = evaluator.class_iou(), evaluator.class_accuracy()
    # Class 5 is nowhere, class 6 is only predicted.
    assert np.isnan(iou[5]) and iou[6] == 0 and np.isnan(accuracy[[5, 6]]).all()
    np.testing.assert_allclose(evaluator.compute()["miou"], np.nanmean(iou))
    details = json.loads(json.dumps(evaluator.to_json(), allow_nan=False))
    assert details["class_iou"]["class 5"] is None and details["class_iou"]["class 6"] == 0
    assert details["class_accuracy"]["class 6"] is None
    lines = evaluator.to_text().splitlines()
    assert lines[0].startswith("images 3   loss 0.00") and "miou" in lines[0]
    assert len(lines) == 2 + 7 and lines[7].split()[2:] == ["none", "none", "0"]


def test_the_loss_is_a_mean_over_pixels():
    evaluator = evaluator_of(2)
    confusion = np.array([[[3, 1], [0, 0]], [[0, 0], [2, 2]]], np.int32)
    predictions = {"confusion": confusion, "loss": np.array([1.0, 3.0], np.float32)}
    evaluator.add(predictions, {"valid": np.array([True, True])})
    metrics = evaluator.compute()
    assert metrics["loss"] == 4 / 8 and metrics["aacc"] == 5 / 8 and metrics["count"] == 2
    np.testing.assert_allclose(metrics["miou"], (3 / 6 + 2 / 5) / 2)


def test_the_order_and_the_batches_do_not_matter():
    rng = np.random.default_rng(0)
    confusion = rng.integers(0, 50, (12, 4, 4)).astype(np.int32)
    loss = rng.integers(0, 99, 12).astype(np.float32)
    together, apart = evaluator_of(4), evaluator_of(4)
    together.add({"confusion": confusion, "loss": loss}, {"valid": np.ones(12, bool)})
    for i in rng.permutation(12).reshape(4, 3):
        apart.add({"confusion": confusion[i], "loss": loss[i]}, {"valid": np.ones(3, bool)})
    assert together.to_json() == apart.to_json()


def test_a_set_without_any_labeled_pixel_has_metrics_of_zero():
    evaluator = evaluator_of(3)
    zeros = {"confusion": np.zeros((2, 3, 3), np.int32), "loss": np.zeros(2)}
    evaluator.add(zeros, {"valid": np.array([True, True])})
    assert evaluator.compute() == dict(loss=0, miou=0, macc=0, aacc=0, count=2)
    assert "none" in evaluator.to_text()


def test_counts_beyond_32_bits_are_exact():
    evaluator = evaluator_of(2)
    confusion = np.full((4, 2, 2), 2**31 - 1, np.int32)
    evaluator.add({"confusion": confusion, "loss": np.zeros(4)}, {"valid": np.ones(4, bool)})
    assert (evaluator.confusion == 4 * (2**31 - 1)).all()
