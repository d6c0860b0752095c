"""What a detection model says of one image, as text, COCO's JSON and a drawing."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cluenet_jax.data import DatasetInfo
from cluenet_jax.data.rle import decode_rle, encode_bitmap
from cluenet_jax.metrics.masks import encode_mask
from cluenet_jax.tasks.base import Result


@dataclasses.dataclass(frozen=True)
class DetectionResult(Result):
    """The D objects that a model sees in one image, best first.

    Attributes:
      boxes: float32 `[D, 4]`: x1, y1, x2, y2 in pixels of the image.
      scores: float32 `[D]`, 0 .. 1.
      labels: int32 `[D]`.
      masks: COCO's run-length code of each, or None without masks.
      size: Height and width of the image.
      seen: Height and width that the model saw it in.
      info: Of the dataset.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: list[dict[str, Any]] | None
    size: tuple[int, int]
    seen: tuple[int, int]
    info: DatasetInfo

    least_drawn: ClassVar[float] = 0.3
    has_drawing: ClassVar[bool] = True

    @classmethod
    def of_slots(cls, slots: Mapping[str, np.ndarray], info: DatasetInfo) -> Self:
        """Of one image's predictions, `Detection.predict` without a truth."""
        size, seen = (tuple(map(int, slots[name])) for name in ("original", "size"))
        valid = np.asarray(slots["valid"])
        factors = np.divide(seen, size).astype(np.float32)[[1, 0, 1, 0]]
        boxes = np.asarray(slots["boxes"])[valid] / factors
        masks = None
        if "mask_logits" in slots:
            logits = np.asarray(slots["mask_logits"], np.float32)[valid]
            pairs = zip(logits, boxes, strict=True)
            masks = [encode_mask(own, box, size) for own, box in pairs]
        scores, labels = (np.asarray(slots[name])[valid] for name in ("scores", "labels"))
        return cls(boxes, scores, labels, masks, size, seen, info)

    def entries(self) -> list[tuple[str, float]]:
        """Classes and scores."""
        names = self.info.class_names
        pairs = zip(self.labels, self.scores, strict=True)
        return [(names[label], float(score)) for label, score in pairs]

    def to_json(self, max_entries: int) -> dict[str, Any]:
        """`detections`, each as an entry of COCO's result files, and `category`, its name.

        `category_id` is the number of the class, from 0; `bbox` is x, y, width, height.
        """
        return {"detections": [self._entry(i) for i in range(len(self.scores))[:max_entries]]}

    def _entry(self, index: int) -> dict[str, Any]:
        x1, y1, x2, y2 = self.boxes[index].astype(float).tolist()
        label = int(self.labels[index])
        entry = {
            "category_id": label,
            "category": self.info.class_names[label],
            "bbox": [round(v, 3) for v in (x1, y1, x2 - x1, y2 - y1)],
            "score": round(float(self.scores[index]), 6),
        }
        if self.masks is not None:
            code = self.masks[index]
            entry["segmentation"] = {**code, "counts": code["counts"].decode()}
        return entry

    def instances(
        self, shape: tuple[int, int], count: int
    ) -> list[tuple[str, float, np.ndarray, np.ndarray]]:
        """Without masks, the mask of an instance is its box."""
        names, factors = self.info.class_names, np.divide(shape, self.size)[[1, 0, 1, 0]]
        instances = []
        for index in self._drawn()[:count]:
            box = (self.boxes[index] * factors).astype(np.float32)
            if self.masks is None:
                mask = _inside(box, shape)
            else:
                own = Image.fromarray(decode_rle(self.masks[index]))
                mask = np.asarray(own.resize(shape[::-1], Image.Resampling.NEAREST)) != 0
            score = float(self.scores[index])
            instances.append((names[self.labels[index]], score, box, mask))
        return instances

    def regions(self, kind: str, least_score: float) -> list[tuple[tuple[float, ...], float]]:
        """Boxes and scores of the objects of a class."""
        rows = zip(self.boxes, self.scores, self.entries(), strict=True)
        return [
            (tuple(box.tolist()), float(score))
            for box, score, (name, _) in rows
            if name == kind and score >= least_score
        ]

    def enlarged(self, side: int) -> Self:
        """A whole number of times as large, the masks' pixels repeated."""
        factor = -(-side // max(self.size))
        if factor <= 1:
            return self
        masks = self.masks
        if masks is not None:
            bitmaps = (decode_rle(code) for code in masks)
            masks = [encode_bitmap(b.repeat(factor, 0).repeat(factor, 1)) for b in bitmaps]
        size = (self.size[0] * factor, self.size[1] * factor)
        return dataclasses.replace(self, boxes=self.boxes * factor, masks=masks, size=size)

    def _drawn(self) -> np.ndarray:
        """Indices of what is likely, best first."""
        return np.flatnonzero(self.scores >= self.least_drawn)

    def drawn_on(self, image: Image.Image) -> Image.Image:
        """Boxes, masks and names of what is likely, on the image at its own size."""
        image = image.copy()
        # In proportion, since people see large images made smaller.
        unit = max(image.size) / 480
        line, stroke = max(round(2 * unit), 1), max(round(unit), 1)
        font = ImageFont.load_default(max(round(13 * unit), 10))
        for index in self._drawn()[::-1]:
            color = self.info.palette[self.labels[index]]
            if max(color) < 128:
                color = tuple(255 - value for value in color)
            if self.masks is not None:
                filling = Image.new("RGB", image.size, color)
                opacity = Image.fromarray(decode_rle(self.masks[index]) * np.uint8(110))
                image.paste(filling, mask=opacity)
            draw = ImageDraw.Draw(image)
            x1, y1, *_ = box = self.boxes[index].tolist()
            draw.rectangle(box, outline=color, width=line)
            text = f"{self.info.class_names[self.labels[index]]} {self.scores[index]:.0%}"
            # Within the image, and on any ground.
            left = max(min(x1 + 2, image.width - draw.textlength(text, font) - 2), 0)
            draw.text((left, y1), text, "white", font, stroke_width=stroke, stroke_fill="black")
        return image


def _inside(box: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """bool `[*shape]`: the pixels whose centers are inside a box."""
    rows, columns = (np.arange(side) + 0.5 for side in shape)
    x1, y1, x2, y2 = box
    return ((rows >= y1) & (rows < y2))[:, None] & (columns >= x1) & (columns < x2)
