"""COCO's metrics of detections and poses, by pycocotools' COCOeval, without prints and files."""

import contextlib
import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

# Of COCOeval's 12 numbers, in its order.
METRICS = (
    "ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large",
    "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large",
)  # fmt: skip
KINDS = {"box": "bbox", "mask": "segm"}
# Of its 10 numbers of keypoints.
POSE_METRICS = (
    "ap", "ap50", "ap75", "ap_medium", "ap_large",
    "ar", "ar50", "ar75", "ar_medium", "ar_large",
)  # fmt: skip
# An entry of COCO's format.
Annotation = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class CocoScores:
    """What COCOeval says of a set.

    Attributes:
      metrics: By the names in `METRICS`; -1 where no truth is of that kind.
      class_ap: float64 `[C]`, as `ap`, of each class; NaN of one without truths.
    """

    metrics: Mapping[str, float]
    class_ap: np.ndarray


def score(
    kind: str,
    truths: Iterable[Annotation],
    detections: Iterable[Annotation],
    image_ids: Sequence[int],
    num_classes: int,
) -> CocoScores:
    """Scores boxes or masks.

    Args:
      kind: "box" or "mask".
      truths: With `image_id`, `category_id` 0 .. C - 1, `area`, `iscrowd`, and `bbox` (x, y,
        width, height) or `segmentation` (a run-length code).
      detections: With the same, and `score`.
      image_ids: Of all images that were evaluated, also of those without either.
      num_classes: C.
    """
    evaluation = _evaluate(KINDS[kind], truths, detections, image_ids, num_classes)
    metrics = dict(zip(METRICS, map(float, evaluation.stats), strict=True))
    # Thresholds, recalls, classes, sizes (all of them first), numbers of detections (100 last).
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    present = (precision > -1).any(axis=(0, 1))
    return CocoScores(metrics, np.where(present, precision.mean(axis=(0, 1)), np.nan))


def score_poses(
    truths: Iterable[Annotation],
    detections: Iterable[Annotation],
    image_ids: Sequence[int],
    sigmas: np.ndarray,
) -> dict[str, float]:
    """Scores the poses of objects of one kind.

    Args:
      truths: With `image_id`, `keypoints` (x, y, v of each; v above 0 if it is labeled),
        `num_keypoints` labeled, `area`, `iscrowd` and `bbox` (x, y, width, height).
      detections: With `image_id`, `keypoints`, `area` and `score`.
      image_ids: Of all images that were evaluated.
      sigmas: float `[K]`.

    Returns:
      By the names in `POSE_METRICS`; -1 where no truth is of that kind.
    """
    evaluation = _evaluate("keypoints", truths, detections, image_ids, 1, sigmas)
    return dict(zip(POSE_METRICS, map(float, evaluation.stats), strict=True))


def _evaluate(
    kind: str,
    truths: Iterable[Annotation],
    detections: Iterable[Annotation],
    image_ids: Sequence[int],
    num_classes: int,
    sigmas: np.ndarray | None = None,
) -> Any:
    """COCOeval of a kind that it knows, with its results."""
    from pycocotools.cocoeval import COCOeval

    indices = [_Index(rows, image_ids, num_classes) for rows in (truths, detections)]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(*indices, kind)
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = sigmas
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


class _Index:
    """The part of pycocotools' class COCO that COCOeval calls, of entries in memory."""

    def __init__(self, rows: Iterable[Annotation], image_ids: Sequence[int], num_classes: int):
        # Copies: COCOeval writes into them. Its ids are from 1, because 0 means "no match".
        self._rows = [{**row, "id": number} for number, row in enumerate(rows, 1)]
        self._image_ids = image_ids
        self._num_classes = num_classes

    def getImgIds(self) -> list[int]:
        return [*self._image_ids]

    def getCatIds(self) -> list[int]:
        return [*range(self._num_classes)]

    def getAnnIds(self, imgIds: Any, catIds: Any) -> range:
        return range(len(self._rows))

    def loadAnns(self, ids: range) -> list[Annotation]:
        return [self._rows[index] for index in ids]

    def annToRLE(self, row: Annotation) -> dict[str, Any]:
        return row["segmentation"]
