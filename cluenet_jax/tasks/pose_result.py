"""What a pose model says of one image, as text, COCO's JSON and a drawing."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from PIL import Image, ImageDraw

from cluenet_jax.data.skeletons import Skeleton
from cluenet_jax.metrics.keypoints import Selection, place_points, pose_scores
from cluenet_jax.tasks.base import Result

# Of a keypoint that is drawn and counted.
_LEAST_DRAWN = 0.2
# Of what is left, right and neither.
_COLORS = {"left": (0, 158, 115), "right": (230, 159, 0), "": (86, 180, 233)}


@dataclasses.dataclass(frozen=True)
class PoseResult(Result):
    """The P poses that a model sees in one image, best first.

    Attributes:
      points: float32 `[P, K, 2]`: x and y in pixels of the image.
      scores: float32 `[P, K]`, about 0 .. 1: heights of the peaks.
      box_scores: float32 `[P]`, of what was cropped.
      totals: float32 `[P]`, of the poses.
      boxes: float32 `[P, 4]`: x1, y1, x2, y2, what was cropped.
      size: Height and width of the image.
      skeleton: Of the keypoints.
      crop: Height and width that the model saw a single one in, None of those of several boxes.
    """

    points: np.ndarray
    scores: np.ndarray
    box_scores: np.ndarray
    totals: np.ndarray
    boxes: np.ndarray
    size: tuple[int, int]
    skeleton: Skeleton
    crop: tuple[int, int] | None

    has_drawing: ClassVar[bool] = True

    @classmethod
    def of_crop(
        cls, slots: Mapping[str, np.ndarray], skeleton: Skeleton, crop: tuple[int, int]
    ) -> Self:
        """Of one crop's predictions, `Pose.predict` without a truth."""
        center, factor = slots["center"][None], slots["factor"][None]
        points = place_points(slots["points"][None], center, factor, np.array(crop[::-1]))
        scores = np.asarray(slots["scores"])[None]
        box_score = slots["box_score"][None]
        total = pose_scores(box_score, scores, _LEAST_DRAWN)
        half = np.array(crop[::-1]) / 2 * factor
        box = np.concatenate([center - half, center + half], axis=1)
        size = tuple(map(int, slots["original"]))
        arrays = (np.float32(a) for a in (points, scores, box_score, total, box))
        return cls(*arrays, size, skeleton, crop)

    @classmethod
    def of_boxes(
        cls,
        results: Sequence["PoseResult"],
        size: tuple[int, int],
        skeleton: Skeleton,
        selection: Selection,
    ) -> Self:
        """Of all boxes of one image, each a result of `of_crop`."""
        count = len(skeleton)
        empty = np.zeros((0, count, 2)), np.zeros((0, count)), np.zeros(0), np.zeros((0, 4))
        names = ("points", "scores", "box_scores", "boxes")
        points, scores, box_scores, boxes = (
            np.concatenate([nothing, *(getattr(result, name) for result in results)])
            for name, nothing in zip(names, empty, strict=True)
        )
        areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        kept, totals = selection(points, scores, box_scores, areas, np.array(skeleton.sigmas))
        columns = (points[kept], scores[kept], box_scores[kept], totals, boxes[kept])
        arrays = (np.float32(column) for column in columns)
        return cls(*arrays, size, skeleton, None)

    def entries(self) -> list[tuple[str, float]]:
        """Of a single crop the keypoints, of several boxes the poses."""
        if self.crop is None:
            return [(self.skeleton.kind, min(float(total), 1.0)) for total in self.totals]
        scores = self.scores[0].clip(0, 1)
        order = np.argsort(-scores, kind="stable")
        return [(self.skeleton.names[i], float(scores[i])) for i in order]

    def to_json(self, max_entries: int) -> dict[str, Any]:
        """`poses`, each as an entry of COCO's result files with its box, and `category`, its name.

        `keypoints` are x, y and score in turns; `bbox` is x, y, width, height of what was cropped.
        """
        return {"poses": [self._entry(i) for i in range(len(self.totals))[:max_entries]]}

    def _entry(self, index: int) -> dict[str, Any]:
        rows = np.concatenate([self.points[index], self.scores[index, :, None]], axis=1)
        x1, y1, x2, y2 = self.boxes[index].astype(float).tolist()
        return {
            "category_id": 1,
            "category": self.skeleton.kind,
            "keypoints": [round(float(value), 3) for value in rows.ravel()],
            "bbox": [round(value, 3) for value in (x1, y1, x2 - x1, y2 - y1)],
            "score": round(float(self.totals[index]), 6),
        }

    def to_rows(self, max_entries: int) -> list[dict[str, Any]]:
        """A row for each keypoint of each pose."""
        return [
            {
                "pose": pose,
                "name": name,
                "x": round(float(x), 2),
                "y": round(float(y), 2),
                "score": round(float(score), 6),
            }
            for pose in range(len(self.totals))[:max_entries]
            for name, (x, y), score in zip(
                self.skeleton.names, self.points[pose], self.scores[pose], strict=True
            )
        ]

    def to_text(self, max_entries: int) -> str:
        """A line for each pose."""
        lines = []
        for index in range(len(self.totals))[:max_entries]:
            sure = int((self.scores[index] >= _LEAST_DRAWN).sum())
            lines.append(
                f"  {self.totals[index]:7.2%}  {self.skeleton.kind}, {sure} of "
                f"{len(self.skeleton)} keypoints of at least {_LEAST_DRAWN:.0%}"
            )
        return "\n".join(lines)

    def keypoints(self, shape: tuple[int, int]) -> list[tuple[str, float, float, float]]:
        """The keypoints of a single crop that are likely, in its pixels."""
        seen = self.enlarged(max(shape))
        rows = zip(self.skeleton.names, seen.scores[0], seen.points[0], strict=True)
        return [
            (name, float(score), float(x), float(y))
            for name, score, (x, y) in rows
            if score >= _LEAST_DRAWN
        ]

    def enlarged(self, side: int) -> Self:
        """Of a single crop its poses in the crop, a whole number of times as large."""
        if self.crop is None:
            return self
        factor = max(-(-side // max(self.crop)), 1)
        x1, y1, x2, _ = self.boxes[0]
        scale = factor * self.crop[1] / (x2 - x1)
        points = (self.points - np.array([x1, y1])) * scale
        boxes = (self.boxes - np.array([x1, y1, x1, y1])) * scale
        size = (self.crop[0] * factor, self.crop[1] * factor)
        return dataclasses.replace(self, points=points, boxes=boxes, size=size)

    def drawn_on(self, image: Image.Image) -> Image.Image:
        """Limbs and keypoints of what is likely, on the image at its own size."""
        image = image.copy()
        draw = ImageDraw.Draw(image)
        width = max(round(max(image.size) / 240), 1)
        for points, scores in zip(self.points[::-1], self.scores[::-1], strict=True):
            sure = scores >= _LEAST_DRAWN
            for pair in self.skeleton.limbs:
                if sure[[*pair]].all():
                    ends = [tuple(points[i].tolist()) for i in pair]
                    draw.line(ends, self._color(*pair), width)
            radius = width if len(self.skeleton) <= 50 else width / 2
            for index in np.flatnonzero(sure):
                x, y = points[index].tolist()
                circle = (x - radius, y - radius, x + radius, y + radius)
                draw.ellipse(circle, self._color(index), "white" if radius >= 2 else None)
        return image

    def _color(self, *indices: int) -> tuple[int, int, int]:
        sides = {self.skeleton.names[index].partition("_")[0] for index in indices} & {*_COLORS}
        return _COLORS[sides.pop() if len(sides) == 1 else ""]
