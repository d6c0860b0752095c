"""Metrics of classification: top-k accuracy, loss, calibration and the confusion matrix."""

from collections.abc import Mapping
from typing import Any

import numpy as np

_TOP = (1, 3, 5)
_BINS = 15
# Classes up to which the confusion matrix is printed.
_PRINTED = 20


class ClassificationEvaluator:
    """Streamed metrics of a classifier.

    Predictions have, for each example: `prediction` int32, the best class; `rank` int32, how
    many classes the model prefers to the true one; `confidence` float32, the probability of the
    best class; `loss` float32, cross-entropy in nats.

    Args:
      class_names: By label.
    """

    def __init__(self, class_names: tuple[str, ...]):
        self._names = class_names
        classes = len(class_names)
        self._count = 0
        self._loss = 0.0
        self._right = {k: 0 for k in _TOP if k <= classes}
        self._confusion = np.zeros((classes, classes), np.int64)
        self._gaps = np.zeros(_BINS)

    def add(self, predictions: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> None:
        """Counts the valid examples of a batch."""
        valid = np.asarray(batch["valid"])
        label = np.asarray(batch["label"])[valid].astype(np.int64)
        values = {name: np.asarray(array)[valid] for name, array in predictions.items()}
        self._count += len(label)
        self._loss += float(np.sum(values["loss"], dtype=np.float64))
        for k in self._right:
            self._right[k] += int(np.sum(values["rank"] < k))
        np.add.at(self._confusion, (label, values["prediction"]), 1)
        confidence = values["confidence"].astype(np.float64)
        which = np.minimum((values["confidence"] * _BINS).astype(int), _BINS - 1)
        right = (values["prediction"] == label).astype(np.float64)
        self._gaps += np.bincount(which, confidence - right, _BINS)

    def compute(self) -> dict[str, float]:
        """`loss`, `top1`, `top3` and `top5` (up to the number of classes) and `count`."""
        count = max(self._count, 1)
        top = {f"top{k}": right / count for k, right in self._right.items()}
        return {"loss": self._loss / count, **top, "count": float(self._count)}

    @property
    def confusion(self) -> np.ndarray:
        """int64 `[classes, classes]`: examples by true class (row) and prediction."""
        return self._confusion.copy()

    def calibration_error(self) -> float:
        """Expected calibration error, 0 .. 1, over 15 bins of equal width.

        Source: M. Naeini et al., Obtaining Well Calibrated Probabilities Using
        Bayesian Binning, 2015.
        """
        return float(np.abs(self._gaps).sum() / max(self._count, 1))

    def to_json(self) -> dict[str, Any]:
        """The metrics, the accuracy of each class and the confusion matrix."""
        return {
            **self.compute(),
            "calibration_error": self.calibration_error(),
            "class_accuracy": dict(zip(self._names, self._accuracies(), strict=True)),
            "confusion": self._confusion.tolist(),
        }

    def to_text(self) -> str:
        """A table for people; the confusion matrix only up to 20 classes."""
        metrics = self.compute()
        lines = [
            f"images {metrics.pop('count'):.0f}   loss {metrics.pop('loss'):.4f}   "
            + "   ".join(f"{name} {value:.2%}" for name, value in metrics.items())
            + f"   calibration error {self.calibration_error():.4f}"
        ]
        width = max(map(len, self._names))
        printed = len(self._names) <= _PRINTED
        cell = len(str(self._confusion.max()))
        title = "  predicted as" if printed else ""
        lines.append(f"{'class':{width}}  accuracy    images{title}")
        rows = zip(self._names, self._accuracies(), self._confusion, strict=True)
        for name, accuracy, row in rows:
            right = "   none  " if accuracy is None else f"{accuracy:8.2%} "
            cells = " ".join(f"{count:{cell}}" for count in row) if printed else ""
            lines.append(f"{name:{width}} {right} {row.sum():8}  {cells}".rstrip())
        return "\n".join(lines)

    def _accuracies(self) -> list[float | None]:
        """Fraction of each class that is recognized; None where it has no examples."""
        counts = self._confusion.sum(axis=1)
        return [
            float(right / count) if count else None
            for right, count in zip(self._confusion.diagonal(), counts, strict=True)
        ]
