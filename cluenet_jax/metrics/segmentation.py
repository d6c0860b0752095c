"""Metrics of segmentation: intersection over union and accuracies, from a confusion matrix."""

from collections.abc import Mapping
from typing import Any

import numpy as np


class SegmentationEvaluator:
    """Streamed metrics of a segmentation model.

    Predictions have, for each image: `confusion` int32 `[C, C]`, its labeled pixels by true class
    (row) and predicted one; `loss` float32, the sum of their cross-entropies in nats. Both are
    computed on the devices (`ops.confusion_matrix`, `ops.segmentation_loss`), so that no logits
    leave them.

    All pixels of the set count alike, whatever image they are in. Classes that are neither in
    the masks nor predicted are in no mean, those not in the masks not in that of accuracies.

    Args:
      class_names: By label.
    """

    def __init__(self, class_names: tuple[str, ...]):
        self._names = class_names
        self._count = 0
        self._loss = 0.0
        self._confusion = np.zeros((len(class_names), len(class_names)), np.int64)

    def add(self, predictions: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> None:
        """Counts the valid images of a batch."""
        valid = np.asarray(batch["valid"])
        self._count += int(valid.sum())
        self._loss += float(np.sum(np.asarray(predictions["loss"])[valid], dtype=np.float64))
        self._confusion += np.asarray(predictions["confusion"])[valid].sum(axis=0, dtype=np.int64)

    def compute(self) -> dict[str, float]:
        """`loss`, `miou`, `macc`, `aacc` and `count`.

        `loss` is the mean over labeled pixels; `miou` and `macc` are means over classes, of the
        intersection over union and of the fraction of a class's pixels that is right; `aacc`
        is the fraction of all labeled pixels; `count` is the number of images. All are 0 if no
        pixel has been labeled.
        """
        pixels = max(int(self._confusion.sum()), 1)
        return {
            "loss": self._loss / pixels,
            "miou": _mean(self.class_iou()),
            "macc": _mean(self.class_accuracy()),
            "aacc": float(self._confusion.trace() / pixels),
            "count": float(self._count),
        }

    @property
    def confusion(self) -> np.ndarray:
        """int64 `[C, C]`: pixels by true class (row) and prediction."""
        return self._confusion.copy()

    def class_iou(self) -> np.ndarray:
        """float64 `[C]`: intersection over union; NaN for a class that is nowhere."""
        right = self._confusion.diagonal()
        return _divide(right, self._confusion.sum(axis=0) + self._confusion.sum(axis=1) - right)

    def class_accuracy(self) -> np.ndarray:
        """float64 `[C]`: fraction of a class's pixels that is right; NaN if it has none."""
        return _divide(self._confusion.diagonal(), self._confusion.sum(axis=1))

    def to_json(self) -> dict[str, Any]:
        """The metrics, those of each class (None where there is none), the confusion matrix."""
        return {
            **self.compute(),
            "class_iou": self._by_name(self.class_iou()),
            "class_accuracy": self._by_name(self.class_accuracy()),
            "confusion": self._confusion.tolist(),
        }

    def to_text(self) -> str:
        """A table for people: a line per class."""
        metrics = self.compute()
        lines = [
            f"images {metrics.pop('count'):.0f}   loss {metrics.pop('loss'):.4f}   "
            + "   ".join(f"{name} {value:.2%}" for name, value in metrics.items())
        ]
        width = max(len("class"), *map(len, self._names))
        lines.append(f"{'class':{width}}       iou  accuracy        pixels")
        pixels = self._confusion.sum(axis=1)
        rows = zip(self._names, self.class_iou(), self.class_accuracy(), pixels, strict=True)
        for name, iou, accuracy, count in rows:
            lines.append(f"{name:{width}}  {_percent(iou)}  {_percent(accuracy)}  {count:12,}")
        return "\n".join(lines)

    def _by_name(self, values: np.ndarray) -> dict[str, float | None]:
        numbers = [None if np.isnan(value) else float(value) for value in values]
        return dict(zip(self._names, numbers, strict=True))


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _mean(values: np.ndarray) -> float:
    numbers = values[~np.isnan(values)]
    return float(numbers.mean()) if numbers.size else 0.0


def _percent(value: float) -> str:
    return "    none" if np.isnan(value) else f"{value:8.2%}"
