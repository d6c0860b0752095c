"""Metrics of classification."""

import numpy as np

from cluenet_jax.metrics.classification import ClassificationEvaluator


def test_the_calibration_error_of_a_known_case():
    evaluator = ClassificationEvaluator(("a", "b"))
    confidence = np.array([0.9, 0.9, 0.6, 0.6, 0.1], np.float32)
    right = np.array([1, 1, 1, 0, 0])
    predictions = dict(prediction=1 - right, rank=1 - right, confidence=confidence, loss=confidence)
    valid = np.array([True] * 4 + [False])
    evaluator.add(predictions, {"label": np.zeros(5, np.int32), "valid": valid})
    # Two bins of two: gaps of 0.1 and 0.1.
    np.testing.assert_allclose(evaluator.calibration_error(), 0.1, atol=1e-6)
    assert evaluator.compute()["count"] == 4 and evaluator.compute()["top1"] == 0.75
    assert evaluator.to_json()["class_accuracy"] == {"a": 0.75, "b": None}
    assert "none" in evaluator.to_text()
