"""Scores of a network on a whole data set, every example counted once."""

import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a network says of N examples.

    Attributes:
      label, prediction: int32 `[N]`, the true and the best class.
      rank: int32 `[N]`, how many classes the network prefers to the true one.
      confidence: float32 `[N]`, the probability of the best class.
      loss: float32 `[N]`, cross-entropy in nats.
    """

    label: np.ndarray
    prediction: np.ndarray
    rank: np.ndarray
    confidence: np.ndarray
    loss: np.ndarray

    def scores(self, num_classes: int) -> dict[str, float]:
        """`loss`, `top1`, `top3` and `top5` (up to the number of classes) and `count`."""
        top = {
            f"top{k}": float(np.mean(self.rank < k, dtype=np.float64))
            for k in (1, 3, 5)
            if k <= num_classes
        }
        loss = float(np.mean(self.loss, dtype=np.float64))
        return {"loss": loss, **top, "count": float(len(self.label))}

    def confusion(self, num_classes: int) -> np.ndarray:
        """int64 `[num_classes, num_classes]`: examples by true class (row) and prediction."""
        cells = self.label.astype(np.int64) * num_classes + self.prediction
        return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)

    def calibration_error(self, bins: int = 15) -> float:
        """Expected calibration error, 0 .. 1, over bins of equal width.

        Source: M. Naeini et al., Obtaining Well Calibrated Probabilities Using
        Bayesian Binning, 2015.
        """
        which = np.minimum((self.confidence * bins).astype(int), bins - 1)
        right = (self.prediction == self.label).astype(np.float64)
        gaps = np.bincount(which, self.confidence.astype(np.float64) - right, bins)
        return float(np.abs(gaps).sum() / len(right))


def predict_all(
    eval_step: Callable,
    params: Any,
    batches: Iterable[dict[str, jax.Array]],
) -> Predictions:
    """Runs a network over `batches`.

    Args:
      eval_step: Jitted, of `make_eval_step`, its results on every process.
      params: The network's parameters.
      batches: Of `eval_batches`, padded and masked, on the devices.
    """
    parts = [eval_step(params, batch) for batch in batches]
    parts = jax.device_get(parts)
    mask = np.concatenate([part.pop("mask") for part in parts])
    fields = {name: np.concatenate([part[name] for part in parts])[mask] for name in parts[0]}
    return Predictions(**fields)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A full evaluation, with its speed.

    Attributes:
      class_names: By label.
      predictions: Of every example.
      images_per_s_device: Of the network alone, its input on the device.
      images_per_s_end_to_end: With reading and decoding.
    """

    class_names: tuple[str, ...]
    predictions: Predictions
    images_per_s_device: float
    images_per_s_end_to_end: float

    def to_json(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and dicts."""
        confusion = self.predictions.confusion(len(self.class_names))
        return {
            **self.predictions.scores(len(self.class_names)),
            "calibration_error": self.predictions.calibration_error(),
            "images_per_s_device": self.images_per_s_device,
            "images_per_s_end_to_end": self.images_per_s_end_to_end,
            "class_accuracy": dict(zip(self.class_names, _accuracies(confusion), strict=True)),
            "confusion": confusion.tolist(),
        }

    def to_text(self) -> str:
        """A table for people; the confusion matrix only up to 20 classes."""
        names, confusion = self.class_names, self.predictions.confusion(len(self.class_names))
        scores = self.predictions.scores(len(names))
        lines = [
            f"pictures {scores.pop('count'):.0f}   loss {scores.pop('loss'):.4f}   "
            + "   ".join(f"{name} {score:.2%}" for name, score in scores.items())
            + f"   calibration error {self.predictions.calibration_error():.4f}",
            f"images/s: {self.images_per_s_device:.0f} on the device alone, "
            f"{self.images_per_s_end_to_end:.0f} with reading",
        ]
        width = max(map(len, names))
        shown = len(names) <= 20
        cell = len(str(confusion.max()))
        title = "  of which taken for" if shown else ""
        lines.append(f"{'class':{width}}  accuracy  pictures{title}")
        for name, accuracy, row in zip(names, _accuracies(confusion), confusion, strict=True):
            right = "   none  " if accuracy is None else f"{accuracy:8.2%} "
            line = f"{name:{width}} {right} {row.sum():8}"
            cells = " ".join(f"{count:{cell}}" for count in row) if shown else ""
            lines.append(f"{line}  {cells}".rstrip())
        return "\n".join(lines)


def _accuracies(confusion: np.ndarray) -> list[float | None]:
    """Share of each class that is recognised; None where it has no examples."""
    counts = confusion.sum(axis=1)
    return [
        float(right / count) if count else None
        for right, count in zip(confusion.diagonal(), counts, strict=True)
    ]


def evaluate_fully(
    eval_step: Callable,
    params: Any,
    read: Callable[[], Iterable[dict[str, jax.Array]]],
    class_names: tuple[str, ...],
) -> Evaluation:
    """Runs over a data set and measures how fast.

    Args:
      eval_step: Jitted, of `make_eval_step`.
      params: The network's parameters.
      read: Opens the batches anew.
      class_names: By label.
    """
    batch = next(iter(read()))
    jax.block_until_ready(eval_step(params, batch))  # Compiles.
    repeats, start = 0, time.perf_counter()
    while repeats < 3 or time.perf_counter() - start < 1.0:
        jax.block_until_ready(eval_step(params, batch))
        repeats += 1
    device = repeats * batch["label"].size / (time.perf_counter() - start)

    start = time.perf_counter()
    predictions = predict_all(eval_step, params, read())
    end_to_end = len(predictions.label) / (time.perf_counter() - start)
    return Evaluation(class_names, predictions, device, end_to_end)
