"""What a detection model says of one image, as text, COCO's JSON and a drawing."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from PIL import Image, ImageDraw

from cluenet_jax.data import DatasetInfo
from cluenet_jax.data.rle import decode_rle
from cluenet_jax.metrics.masks import encode_mask
from cluenet_jax.tasks.base import Result

# Detections below it are not drawn.
_LEAST_DRAWN = 0.3


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

    def drawn_on(self, image: Image.Image) -> Image.Image:
        """Boxes, masks and names of what is likely, on the image at its own size."""
        image = image.copy()
        for index in np.flatnonzero(self.scores >= _LEAST_DRAWN)[::-1]:
            color = self.info.palette[self.labels[index]]
            if max(color) < 128:
                color = tuple(255 - value for value in color)
            if self.masks is not None:
                filling = Image.new("RGB", image.size, color)
                opacity = Image.fromarray(decode_rle(self.masks[index]) * np.uint8(110))
                image.paste(filling, mask=opacity)
            draw = ImageDraw.Draw(image)
            x1, y1, *_ = box = self.boxes[index].tolist()
            draw.rectangle(box, outline=color)
            text = f"{self.info.class_names[self.labels[index]]} {self.scores[index]:.0%}"
            draw.text((x1 + 2, y1 + 1), text, fill=color)
        return image
