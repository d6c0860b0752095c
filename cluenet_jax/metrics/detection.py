"""Metrics of detection: COCO's average precision and recall of boxes and of masks."""

import dataclasses
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from cluenet_jax.metrics.coco import KINDS, METRICS, Annotation, CocoScores, score
from cluenet_jax.metrics.masks import encode_mask


@dataclasses.dataclass(frozen=True)
class _Detections:
    """The K detections of an image, at the size of its file.

    Attributes:
      image_id: Of the image.
      size: Its height and width.
      boxes: float32 `[K, 4]`.
      scores: float32 `[K]`.
      labels: int `[K]`.
      mask_logits: float32 `[K, S, S]`, or None.
    """

    image_id: int
    size: tuple[int, int]
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    mask_logits: np.ndarray | None


class DetectionEvaluator:
    """Streamed metrics of a detection model; keeps boxes and run-length codes, no pixels.

    Predictions have, in K slots for each image: `boxes` float32 `[B, K, 4]`, x1, y1, x2, y2 in
    pixels of the resized image; `scores` float32 `[B, K]`; `labels` int `[B, K]`; `valid` bool
    `[B, K]`: which slots hold a detection; `mask_logits` float32 `[B, K, S, S]`, of the class of
    each, if masks are evaluated.

    Batches have `valid` bool `[B]`; `truth` uint8 `[B, T]`, the JSON text that
    `data.encode_truth` describes; `size` int32 `[B, 2]`: height and width of the resized image
    without padding.

    Boxes are divided, axis by axis, by resized over original length. Masks are pasted at the
    original size, and judged small or large by their own areas. A detection with a number that is
    not finite is left out.

    Args:
      class_names: By label.
      masks: Whether masks are evaluated, besides boxes.
      num_threads: That paste and encode masks; one per core if None.
    """

    def __init__(
        self, class_names: tuple[str, ...], masks: bool = True, num_threads: int | None = None
    ):
        self._names = class_names
        self._kinds = tuple(KINDS) if masks else ("box",)
        self._num_threads = num_threads
        self._image_ids: set[int] = set()
        self._truths: dict[str, list[Annotation]] = {kind: [] for kind in self._kinds}
        self._detections: dict[str, list[Annotation]] = {kind: [] for kind in self._kinds}
        self._scores: dict[str, CocoScores] = {}

    def add(self, predictions: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> None:
        """Counts the valid images of a batch.

        Raises:
          ValueError: An image has been added before.
        """
        images = []
        for row in np.flatnonzero(batch["valid"]):
            truth = json.loads(np.asarray(batch["truth"][row]).tobytes().rstrip(b"\0"))
            self._add_truth(truth)
            images.append(_at_original_size(predictions, batch["size"][row], truth, int(row)))
        for image in images:
            self._detections["box"] += _box_entries(image)
        if "mask" in self._kinds:
            with ThreadPoolExecutor(self._num_threads) as pool:
                for entries in pool.map(_mask_entries, images):
                    self._detections["mask"] += entries
        self._scores = {}

    def _add_truth(self, truth: dict[str, Any]) -> None:
        if truth["image_id"] in self._image_ids:
            raise ValueError(f"Image {truth['image_id']} is added twice; each counts once.")
        self._image_ids.add(truth["image_id"])
        rows = _truth_entries(truth)
        self._truths["box"] += rows
        if "mask" in self._kinds:
            self._truths["mask"] += [
                {**row, "segmentation": {"size": truth["size"], "counts": counts.encode()}}
                for row, counts in zip(rows, truth["masks"], strict=True)
            ]

    def scores(self) -> dict[str, CocoScores]:
        """By kind, "box" and, if they are evaluated, "mask"; computed once for all that is added.

        They do not depend on the order in which images were added: COCOeval sorts by their ids.
        """
        if not self._scores:
            images, count = sorted(self._image_ids), len(self._names)
            self._scores = {
                kind: score(kind, self._truths[kind], self._detections[kind], images, count)
                for kind in self._kinds
            }
        return self._scores

    def compute(self) -> dict[str, float]:
        """COCO's 12 numbers of each kind, `box_ap` ... `mask_ar_large`, and `count`, of images.

        Each is -1 if the set has no truth that it would count.
        """
        metrics = {
            f"{kind}_{name}": value
            for kind, scores in self.scores().items()
            for name, value in scores.metrics.items()
        }
        return {**metrics, "count": float(len(self._image_ids))}

    def to_json(self) -> dict[str, Any]:
        """The metrics, and the `ap` of each class by kind, None where it has no truth."""
        classes = {
            f"class_{kind}_ap": {
                name: None if np.isnan(value) else float(value)
                for name, value in zip(self._names, scores.class_ap, strict=True)
            }
            for kind, scores in self.scores().items()
        }
        return {**self.compute(), **classes}

    def to_text(self) -> str:
        """Tables for people: a line per metric, and a line per class."""
        scores = self.scores()
        head = "".join(f"{kind:>10}" for kind in scores)
        width = max(len("ap of class"), *map(len, self._names))
        lines = [f"images {len(self._image_ids)}", f"{'metric':{width}}{head}"]
        for name in METRICS:
            values = (_percent(result.metrics[name]) for result in scores.values())
            lines.append(f"{name:{width}}{''.join(values)}")
        lines.append(f"{'ap of class':{width}}{head}")
        for name, *values in zip(self._names, *(s.class_ap for s in scores.values()), strict=True):
            lines.append(f"{name:{width}}{''.join(map(_percent, values))}")
        return "\n".join(lines)


def _at_original_size(
    predictions: Mapping[str, np.ndarray], resized: np.ndarray, truth: dict[str, Any], row: int
) -> _Detections:
    boxes, scores = (np.asarray(predictions[name][row], np.float32) for name in ("boxes", "scores"))
    chosen = np.asarray(predictions["valid"][row]) & np.isfinite(boxes).all(1) & np.isfinite(scores)
    factors = np.divide(resized, truth["size"]).astype(np.float32)[[1, 0, 1, 0]]
    logits = predictions.get("mask_logits")
    return _Detections(
        truth["image_id"],
        tuple(truth["size"]),
        boxes[chosen] / factors,
        scores[chosen],
        np.asarray(predictions["labels"][row])[chosen],
        None if logits is None else np.asarray(logits[row], np.float32)[chosen],
    )


def _truth_entries(truth: dict[str, Any]) -> list[Annotation]:
    rows = zip(*(truth[key] for key in ("boxes", "labels", "areas", "crowd")), strict=True)
    return [
        {
            "image_id": truth["image_id"],
            "category_id": label,
            "bbox": box,
            "area": area,
            "iscrowd": crowd,
        }
        for box, label, area, crowd in rows
    ]


def _detection(image: _Detections, index: int, **fields: Any) -> Annotation:
    return {
        "image_id": image.image_id,
        "category_id": int(image.labels[index]),
        "score": float(image.scores[index]),
        "iscrowd": 0,
        **fields,
    }


def _box_entries(image: _Detections) -> list[Annotation]:
    entries = []
    for index, (x1, y1, x2, y2) in enumerate(image.boxes.astype(np.float64).tolist()):
        width, height = x2 - x1, y2 - y1
        box = {"bbox": [x1, y1, width, height], "area": width * height}
        entries.append(_detection(image, index, **box))
    return entries


def _mask_entries(image: _Detections) -> list[Annotation]:
    entries = []
    for index, (logits, box) in enumerate(zip(image.mask_logits, image.boxes, strict=True)):
        code = encode_mask(logits, box, image.size)
        area = float(coco_mask.area(code))
        entries.append(_detection(image, index, segmentation=code, area=area))
    return entries


def _percent(value: float) -> str:
    return "      none" if np.isnan(value) or value < 0 else f"{value:10.2%}"
