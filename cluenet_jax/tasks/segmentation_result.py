"""What a segmentation model says of one image, as text, numbers and a mask."""

import dataclasses
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from cluenet_jax.data import DatasetInfo
from cluenet_jax.tasks.base import Result


@dataclasses.dataclass(frozen=True)
class SegmentationResult(Result):
    """What a model says of the pixels of one image.

    Attributes:
      classes: uint8 `[H, W]`.
      info: Of the dataset.
    """

    classes: np.ndarray
    info: DatasetInfo

    has_drawing: ClassVar[bool] = True

    def entries(self) -> list[tuple[str, float]]:
        """The classes that there are with their fraction of the pixels, largest first."""
        counts = np.bincount(self.classes.ravel(), minlength=self.info.num_classes)
        order = np.argsort(-counts, kind="stable")
        areas = counts / self.classes.size
        return [(self.info.class_names[i], float(areas[i])) for i in order if counts[i]]

    def to_json(self, max_entries: int) -> dict[str, Any]:
        """`{"areas": {class: fraction of the pixels}}`, largest first."""
        return {"areas": {name: round(area, 6) for name, area in self.entries()[:max_entries]}}

    def images(self) -> dict[str, Image.Image]:
        """`_mask`: the classes as a palette image of the dataset's colors."""
        mask = Image.fromarray(self.classes, "P")
        mask.putpalette(np.asarray(self.info.palette, np.uint8).ravel().tobytes())
        return {"_mask": mask}
