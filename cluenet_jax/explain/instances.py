"""Detected instances and the clusters that they consist of, measured against their masks."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cluenet_jax.explain.mask_agreement import mask_agreement

# What surrounds a box in its window, a fraction of the box's longer side.
_MARGIN = 0.15
# Measures of `mask_agreement` that are taken within the window.
_WINDOW_MEASURES = ("asa", "boundary_recall")


@dataclasses.dataclass(frozen=True)
class Instance:
    """An object that a model detected in an image, in pixels of the image as the model saw it.

    Attributes:
      name: Of what it is.
      score: 0 .. 1.
      box: float32 `[4]`: x1, y1, x2, y2.
      mask: bool `[H, W]`; the box where the model has no masks.
    """

    name: str
    score: float
    box: np.ndarray
    mask: np.ndarray

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the square around the box, a margin included, cut at the image."""
        x1, y1, x2, y2 = self.box.astype(float)
        half = max((0.5 + _MARGIN) * max(x2 - x1, y2 - y1), 1)
        rows, columns = (
            _span(middle, half, length)
            for middle, length in zip(((y1 + y2) / 2, (x1 + x2) / 2), self.mask.shape, strict=True)
        )
        return rows, columns


def best_union(regions: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, float]:
    """The regions whose union has the greatest intersection over union (IoU) with a mask.

    Args:
      regions: `[H, W]` integers, any partition.
      mask: bool `[H, W]`.

    Returns:
      The numbers of these regions, ascending, and the IoU in 0 .. 1. No regions and 0 if the mask
      has no pixel.

    Raises:
      ValueError: The shapes differ.
    """
    if regions.shape != mask.shape:
        raise ValueError(f"regions have shape {regions.shape}, the mask {mask.shape}.")
    numbers, index = np.unique(regions, return_inverse=True)
    size = np.bincount(index.ravel())
    inside = np.bincount(index.ravel(), weights=mask.ravel())
    # The best union takes all regions that are inside to more than some fraction.
    order = np.argsort(-inside / size, kind="stable")
    outside = np.cumsum((size - inside)[order])
    overlap = np.cumsum(inside[order]) / (inside.sum() + outside).clip(1)
    count = int(np.argmax(overlap)) + 1 if mask.any() else 0
    return np.sort(numbers[order[:count]]), float(overlap[count - 1]) if count else 0.0


def instance_agreement(
    partitions: Mapping[str, np.ndarray], instance: Instance
) -> dict[str, dict[str, Any]]:
    """How well an instance's mask is made of the regions of partitions.

    Args:
      partitions: By name, integers `[H, W]`, or `[G, H, W]`, one map for each of G heads.
      instance: Of an image of that size.

    Returns:
      By the partition's name, for several heads followed by ", head 0" and so on. In the
      instance's window: `iou` of `best_union`; `regions`, the numbers of its regions; `asa` and
      `boundary_recall` of `mask_agreement`, None where the mask has no boundary. `image_iou`: of
      `best_union` in the whole image, lower where objects share regions.
    """
    agreement = {}
    for name, index, _ in _single_maps(partitions):
        cut, mask = index[instance.window], instance.mask[instance.window]
        regions, iou = best_union(cut, mask)
        measured = mask_agreement(cut[None], mask[None].astype(int))
        values = {key: float(measured[key][0]) for key in _WINDOW_MEASURES}
        agreement[name] = {
            "iou": round(iou, 4),
            "image_iou": round(best_union(index, instance.mask)[1], 4),
            "regions": regions.tolist(),
            **{key: None if np.isnan(v) else round(v, 4) for key, v in values.items()},
        }
    return agreement


class InstanceComparison:
    """Agreement of partitions of images with the instances detected there, streamed."""

    def __init__(self):
        self._num_images = self._num_detected = self._num_measured = 0
        self._overlaps: dict[str, list[tuple[float, float]]] = {}

    def add(
        self, partitions: Mapping[str, np.ndarray], instances: Sequence[Instance], detected: int
    ) -> list[dict[str, Any]]:
        """Counts an image.

        Args:
          partitions: As for `instance_agreement`.
          instances: Those that are measured.
          detected: How many there are with those that are not.

        Returns:
          For each instance what `instance_agreement` gives.
        """
        self._num_images += 1
        self._num_detected += detected
        self._num_measured += len(instances)
        rows = [instance_agreement(partitions, instance) for instance in instances]
        origin = {name: source for name, _, source in _single_maps(partitions)}
        for row in rows:
            for name, values in row.items():
                self._overlaps.setdefault(origin[name], []).append(
                    (values["iou"], values["image_iou"])
                )
        return rows

    def compute(self) -> dict[str, dict[str, float]]:
        """By partition, the means of `iou` and `image_iou` over instances and heads."""
        means = {name: np.mean(pairs, axis=0) for name, pairs in self._overlaps.items()}
        return {
            name: {"iou": float(window), "image_iou": float(image)}
            for name, (window, image) in means.items()
        }

    def to_text(self) -> str:
        """Lines for people: how many instances there are, and a line per partition."""
        text = f"Detected: {self._num_detected} instances in {self._num_images} images"
        means = self.compute()
        if not means:
            return f"{text}."
        width = max(map(len, means))
        lines = [
            f"{text}. Mean IoU of {self._num_measured} masks with the best union of regions:",
            f"  {'':{width}}  around the box  whole image",
        ]
        for name, mean in means.items():
            lines.append(f"  {name:{width}}  {mean['iou']:14.3f}  {mean['image_iou']:11.3f}")
        return "\n".join(lines)


def _single_maps(partitions: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray, str]]:
    """A name, `[H, W]` and the partition's name for each map of each partition."""
    maps = []
    for source, regions in partitions.items():
        if regions.ndim == 2:
            maps.append((source, regions, source))
        else:
            maps += [(f"{source}, head {g}", index, source) for g, index in enumerate(regions)]
    return maps


def _span(middle: float, half: float, length: int) -> slice:
    """Where `2 * half` pixels around `middle` meet an axis, moved inside where they fit."""
    count = min(int(np.ceil(2 * half)), length)
    start = int(np.clip(np.floor(middle - half), 0, length - count))
    return slice(start, start + count)
