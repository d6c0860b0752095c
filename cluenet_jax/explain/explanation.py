"""Explanation of one image: everything a model says of it, on the host."""

import dataclasses
from collections.abc import Sequence
from typing import Self

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cluenet_jax.explain.importance import ScoreFn, importance_of_masks
from cluenet_jax.explain.instances import Instance
from cluenet_jax.explain.maps import compute_maps, decision_regions, to_image_grid


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What `explain_image` returns.

    Attributes:
      name: What to call the image.
      image: uint8 `[H, W, 3]`, as the model saw it, without padding.
      truth: The name of the true target, or None.
      entries: The model's best answers with their scores in 0 .. 1, best first.
      clusters: For each stage int32 `[G, H_s, W_s]`.
      fields: For each stage int32 `[H, W]`.
      decisions: For each K the regions, int32 `[H, W]`; a K that this image has not enough
        regions for may be left out.
      importance: For each K float32 `[regions, 2]`, drop and keep of each region.
      target_name: The target that importance is for.
      drawing: uint8 `[H', W', 3]`, the image with the model's answer drawn on it, where a drawing
        says more than `entries`; else None.
      instances: The best of the objects that the model detected.
      keypoints: Names, scores, x and y of keypoints that the model is sure of, in pixels.
      least_score: Of a detected object, the least score in 0 .. 1; None of a model that detects
        none. Then `entries` are the objects of at least this score.
    """

    name: str
    image: np.ndarray
    truth: str | None
    entries: list[tuple[str, float]]
    clusters: list[np.ndarray]
    fields: list[np.ndarray]
    decisions: dict[int, np.ndarray]
    importance: dict[int, np.ndarray]
    target_name: str
    drawing: np.ndarray | None = None
    instances: Sequence[Instance] = ()
    keypoints: Sequence[tuple[str, float, float, float]] = ()
    least_score: float | None = None

    @property
    def note(self) -> str:
        """Says that nothing was detected, where it is so; else empty."""
        if self.least_score is None or self.entries:
            return ""
        return f"Nothing detected with a score of at least {self.least_score:.0%}"

    @property
    def wrong(self) -> bool:
        """Whether the best answer is known not to be the true target."""
        return self.truth is not None and (not self.entries or self.truth != self.entries[0][0])

    def stage_map(self, stage: int, head: int) -> np.ndarray:
        """int32 `[H, W]`: the cluster that owns each image pixel at a stage, from 1 on.

        A stage with fewer heads gives its last one.
        """
        field, clusters = self.fields[stage - 1], self.clusters[stage - 1]
        head = min(head, len(clusters) - 1)
        return to_image_grid(field[None], clusters[None, head : head + 1])[0, 0]

    def cropped(self, height: int, width: int) -> Self:
        """The explanation of the image's upper left part, of which the rest is padding.

        Clusters and importance stay those of the whole.
        """
        image, fields, decisions = self.image, self.fields, self.decisions
        return dataclasses.replace(
            self,
            image=image[:height, :width],
            fields=[field[:height, :width] for field in fields],
            decisions={count: regions[:height, :width] for count, regions in decisions.items()},
        )

    def scores(self, count: int) -> np.ndarray:
        """float32 `[regions]`, the importance of each region of the map with K = `count`."""
        return self.importance[count].mean(axis=1)


def explain_image(
    model: nn.Module,
    score: ScoreFn,
    variables: dict,
    image: np.ndarray,
    normalized: np.ndarray,
    target: int,
    counts: Sequence[int],
    *,
    target_name: str = "",
    entries: Sequence[tuple[str, float]] = (),
    name: str = "",
    truth: str | None = None,
    drawing: np.ndarray | None = None,
    instances: Sequence[Instance] = (),
    keypoints: Sequence[tuple[str, float, float, float]] = (),
    least_score: float | None = None,
) -> Explanation:
    """Explains one image.

    Args:
      model, variables: A model with a head.
      score: The model's score, such as `class_probability(model)`.
      image: uint8 `[H, W, 3]`.
      normalized: The same, normalized: float32 `[H, W, 3]`.
      target: The number of the target that importance is for.
      counts: Numbers of regions K of the decision maps.
      target_name, entries, name, truth, drawing: As in `Explanation`.
      instances, keypoints, least_score: As in `Explanation`.
    """
    images = jnp.asarray(normalized)[None]
    maps = compute_maps(model, variables, images)
    regions = {count: decision_regions(maps, count)[0] for count in counts}
    # All masks of all maps in one pass, always as many, so that it is compiled once.
    masks = np.stack([regions[count] == region for count in counts for region in range(count)])
    result = importance_of_masks(score, variables, images, masks[:, None], jnp.array([target]))
    drop_keep = np.stack([result.drop[0], result.keep[0]], axis=-1)
    decisions, scores = {}, {}
    for count, start in zip(counts, np.cumsum([0, *counts]), strict=False):
        num_regions = int(regions[count].max()) + 1
        # An image with few regions has the same map for several K.
        if num_regions == count or num_regions not in map(len, scores.values()):
            decisions[count] = regions[count]
            scores[count] = drop_keep[start : start + num_regions]
    return Explanation(
        name=name,
        image=image,
        truth=truth,
        entries=list(entries),
        clusters=[np.asarray(clusters[0]) for clusters in maps.clusters],
        fields=[np.asarray(field[0]) for field in maps.fields],
        decisions=decisions,
        importance=scores,
        target_name=target_name,
        drawing=drawing,
        instances=instances,
        keypoints=keypoints,
        least_score=least_score,
    )
