"""Similarity of poses (OKS), what of several detections of one object is kept, and their metrics.

Source: COCO's keypoint evaluation; mmpose's `CocoWholeBodyMetric` and `oks_nms` (1.3.2).
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from cluenet_jax.metrics.coco import POSE_METRICS, Annotation, score_poses

# A keypoint is right for `pck` within this fraction of the object's height.
_PCK_FRACTION = 0.1


def object_similarity(points: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """The object keypoint similarity (OKS) of detected poses with each other.

    Args:
      points: float `[N, K, 2]`.
      areas: float `[N]`, in pixels.
      sigmas: float `[K]`.

    Returns:
      float64 `[N, N]` in 0 .. 1: the mean over all keypoints.
    """
    points, areas = np.asarray(points, np.float64), np.asarray(areas, np.float64)
    variances = np.square(2 * np.asarray(sigmas, np.float64))
    squares = np.square(points[:, None] - points[None]).sum(-1)
    mean_areas = (areas[:, None] + areas[None]) / 2 + np.spacing(1)
    return np.exp(-squares / (2 * variances * mean_areas[..., None])).mean(-1)


def keep_distinct(
    points: np.ndarray, scores: np.ndarray, areas: np.ndarray, sigmas: np.ndarray, threshold: float
) -> np.ndarray:
    """Non-maximum suppression: of poses more similar than a threshold, the best one.

    Args:
      points, areas, sigmas: As for `object_similarity`.
      scores: float `[N]`.
      threshold: Of the similarity.

    Returns:
      int `[M]`: indices of those that are kept, best first.
    """
    similarity = object_similarity(points, areas, sigmas)
    left, kept = np.argsort(-np.asarray(scores), kind="stable"), []
    while left.size:
        best, *_ = left
        kept.append(best)
        left = left[1:][similarity[best, left[1:]] <= threshold]
    return np.array(kept, np.intp)


def pose_scores(box_scores: np.ndarray, scores: np.ndarray, least: float) -> np.ndarray:
    """float64 `[N]`: scores of boxes `[N]` times the mean of points' scores `[N, K]` above `least`.

    0 where no point's is.
    """
    scores = np.asarray(scores, np.float64)
    counted = scores > least
    means = np.where(counted, scores, 0).sum(1) / counted.sum(1).clip(1)
    return np.asarray(box_scores, np.float64) * means


def place_points(points: np.ndarray, centers: np.ndarray, factors: np.ndarray, size: np.ndarray):
    """Points of crops, in pixels of their images: float64 `[B, K, 2]`.

    Args:
      points: float `[B, K, 2]`, x and y in pixels of the crops.
      centers: float `[B, 2]`, of what is cropped.
      factors: float `[B]`, pixels of the image per pixel of the crop.
      size: `[2]`, width and height of the crops.
    """
    moved = np.asarray(points, np.float64) - np.asarray(size, np.float64) / 2
    return moved * np.asarray(factors, np.float64)[:, None, None] + centers[:, None]


@dataclasses.dataclass(frozen=True)
class Selection:
    """How detected poses are scored and chosen.

    Attributes:
      least_score: Of a keypoint that counts for the score of its pose.
      max_similarity: Of two poses of which both are kept.
    """

    least_score: float = 0.2
    max_similarity: float = 0.9

    def __call__(
        self,
        points: np.ndarray,
        scores: np.ndarray,
        box_scores: np.ndarray,
        areas: np.ndarray,
        sigmas: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The N poses of one image: indices of those that are kept, best first, and their scores.

        Args:
          points: float `[N, K, 2]`.
          scores: float `[N, K]`.
          box_scores, areas: float `[N]`.
          sigmas: float `[K]`.
        """
        totals = pose_scores(box_scores, scores, self.least_score)
        kept = keep_distinct(points, totals, areas, sigmas, self.max_similarity)
        return kept, totals[kept]


@dataclasses.dataclass(frozen=True)
class _Pose:
    points: np.ndarray
    scores: np.ndarray
    box_score: float
    area: float


class PoseEvaluator:
    """Streamed metrics of a pose model: COCO's, of all keypoints and of each part of them.

    Predictions have `points` float `[B, K, 2]`, x and y in pixels of the crops, and `scores` float
    `[B, K]`.

    Batches have `valid` bool `[B]`; `image_index` int `[B]`, of the image that is cropped;
    `center` float `[B, 2]` and `factor` float `[B]`, see `place_points`; `area` float `[B]` of what
    is cropped; `box_score` float `[B]`, negative where there is no box, and the example only brings
    the truth of its image; `truth` uint8 `[B, T]`, the JSON text that `data.encode_persons`
    describes, for one example of each image, else zeros; `own` float `[B, 3 K]`, x, y and v of the
    true points of the cropped object, v being 0 where they are not known, and `height` float `[B]`.

    Args:
      sigmas: float `[K]`.
      parts: Names and bounds of parts that are also evaluated alone.
      crop_size: Height and width of the crops.
      selection: Of the detected poses.
    """

    WHOLE: ClassVar[str] = "whole"

    def __init__(
        self,
        sigmas: tuple[float, ...],
        parts: tuple[tuple[str, int, int], ...],
        crop_size: tuple[int, int],
        selection: Selection,
    ):
        self._sigmas = np.asarray(sigmas, np.float64)
        # By which COCO tells near from far detections, whatever part is evaluated.
        self._main = parts[0][1:] if parts else (0, len(sigmas))
        # What is all of it has no second line.
        self._parts = [part for part in parts if part[2] - part[1] < len(sigmas)]
        self._crop_size = np.array(crop_size[::-1])
        self._selection = selection
        self._truths: dict[int, list[Annotation]] = {}
        self._poses: dict[int, list[_Pose]] = {}
        self._num_near = self._num_points = self._num_boxes = 0
        self._metrics: dict[str, float] = {}

    def add(self, predictions: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> None:
        """Counts the valid examples of a batch.

        Raises:
          ValueError: The truth of an image has been added before.
        """
        points = place_points(
            predictions["points"], batch["center"], batch["factor"], self._crop_size
        )
        self._metrics = {}
        for row in np.flatnonzero(batch["valid"]):
            index = int(batch["image_index"][row])
            if text := np.asarray(batch["truth"][row]).tobytes().rstrip(b"\0"):
                self._add_truth(index, json.loads(text))
            if batch["box_score"][row] < 0:
                continue
            self._num_boxes += 1
            pose = _Pose(
                points[row],
                np.asarray(predictions["scores"][row], np.float64),
                float(batch["box_score"][row]),
                float(batch["area"][row]),
            )
            self._count_near(pose.points, batch["own"][row], float(batch["height"][row]))
            if np.isfinite(pose.points).all() and np.isfinite(pose.scores).all():
                self._poses.setdefault(index, []).append(pose)

    def _add_truth(self, index: int, persons: list[Annotation]) -> None:
        if index in self._truths:
            raise ValueError(f"The truth of image {index} is added twice; each counts once.")
        self._truths[index] = [{**person, "image_id": index} for person in persons]

    def _count_near(self, points: np.ndarray, own: np.ndarray, height: float) -> None:
        x, y, v = np.asarray(own, np.float64).reshape(-1, 3).T
        near = np.hypot(points[:, 0] - x, points[:, 1] - y) <= _PCK_FRACTION * height
        self._num_near += int((near & (v > 0)).sum())
        self._num_points += int((v > 0).sum())

    def detections(self) -> list[tuple[int, int, float]]:
        """What is kept of each image: its index, the pose's, in the order added, and the score."""
        return [(index, number, score) for index, number, _, score in self._kept()]

    def _kept(self) -> list[tuple[int, int, _Pose, float]]:
        rows = []
        for index in sorted(self._poses):
            poses = self._poses[index]
            columns = (np.array([getattr(pose, name) for pose in poses])
                       for name in ("points", "scores", "box_score", "area"))  # fmt: skip
            kept, scores = self._selection(*columns, self._sigmas)
            chosen = zip(kept.tolist(), scores.tolist(), strict=True)
            rows += [(index, number, poses[number], score) for number, score in chosen]
        return rows

    def compute(self) -> dict[str, float]:
        """COCO's 10 numbers, `ap` ... `ar_large`, of all keypoints, and of each part, `body_ap` ...

        Also `pck`, the fraction of labeled keypoints of true boxes that are found within a tenth of
        the object's height (-1 with boxes of a detector), and `count`, of boxes.
        """
        if not self._metrics:
            detections = [_detection(*row, *self._main) for row in self._kept()]
            self._metrics = self._score(0, len(self._sigmas), detections)
            for name, first, last in self._parts:
                values = self._score(first, last, detections)
                self._metrics |= {f"{name}_{key}": value for key, value in values.items()}
            near = self._num_near / self._num_points if self._num_points else -1.0
            self._metrics |= {"pck": near, "count": float(self._num_boxes)}
        return self._metrics

    def _score(self, first: int, last: int, detections: list[Annotation]) -> dict[str, float]:
        part = slice(3 * first, 3 * last)
        truths = []
        for persons in self._truths.values():
            for person in persons:
                points = person["keypoints"][part]
                labeled = int(np.count_nonzero(np.array(points[2::3]) > 0))
                truths.append({
                    **person, "keypoints": points, "num_keypoints": labeled, "category_id": 0,
                })  # fmt: skip
        parts = [{**row, "keypoints": row["keypoints"][part]} for row in detections]
        # Of what has no score in a part nothing is said there.
        parts = [row for row in parts if any(row["keypoints"][2::3])]
        return score_poses(truths, parts, sorted(self._truths), self._sigmas[first:last])

    def to_text(self) -> str:
        """A table for people: a line for all keypoints and for each part."""
        metrics = self.compute()
        names = [self.WHOLE, *(name for name, _, _ in self._parts)]
        width = max(map(len, names))
        lines = [
            f"boxes {self._num_boxes}, images {len(self._truths)}",
            f"{'':{width}}" + "".join(f"{name:>10}" for name in POSE_METRICS),
        ]
        for name in names:
            prefix = "" if name == self.WHOLE else f"{name}_"
            values = "".join(_percent(metrics[prefix + metric]) for metric in POSE_METRICS)
            lines.append(f"{name:{width}}{values}")
        if self._num_points:
            lines.append(f"within a tenth of the height: {metrics['pck']:.2%} of keypoints")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The metrics."""
        return dict(self.compute())


def _detection(index: int, _: int, pose: _Pose, score: float, first: int, last: int) -> Annotation:
    rows = np.concatenate([pose.points, pose.scores[:, None]], axis=1)
    return {
        "image_id": index,
        "category_id": 0,
        "keypoints": rows.ravel().tolist(),
        "area": float(np.ptp(pose.points[first:last], axis=0).prod()),
        "score": score,
    }


def _percent(value: float) -> str:
    return "      none" if value < 0 else f"{value:10.2%}"
