"""One picture and everything a network says of it, on the host."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cluenet_jax.explain.importance import importance_of_masks
from cluenet_jax.explain.maps import decision_regions, in_image, look


@dataclasses.dataclass(frozen=True)
class Seen:
    """What `see` returns.

    Attributes:
      name: What to call the picture.
      image: uint8 `[H, W, 3]`, as the network saw it.
      label: The true class, or None.
      top: The best classes with their probabilities, best first.
      clusters: For each stage int32 `[G, H_s, W_s]`.
      fields: For each stage int32 `[H, W]`.
      decisions: For each K the regions, int32 `[H, W]`; a K that this image has not enough
        regions for may be left out.
      importance: For each K float32 `[regions, 2]`, drop and keep of each region.
      class_name: The class that importance is about.
    """

    name: str
    image: np.ndarray
    label: str | None
    top: list[tuple[str, float]]
    clusters: list[np.ndarray]
    fields: list[np.ndarray]
    decisions: dict[int, np.ndarray]
    importance: dict[int, np.ndarray]
    class_name: str

    @property
    def wrong(self) -> bool:
        """Whether the best class is known not to be the true one."""
        return self.label is not None and self.label != self.top[0][0]

    def stage_map(self, stage: int, head: int) -> np.ndarray:
        """int32 `[H, W]`: the cluster that owns each image pixel at a stage, from 1 on.

        A stage with fewer heads gives its last one.
        """
        field, clusters = self.fields[stage - 1], self.clusters[stage - 1]
        head = min(head, len(clusters) - 1)
        return in_image(field[None], clusters[None, head : head + 1])[0, 0]

    def scores(self, count: int) -> np.ndarray:
        """float32 `[regions]`, the importance of each region of the map with K = `count`."""
        return self.importance[count].mean(axis=1)


def see(
    model: nn.Module,
    variables: dict,
    image: np.ndarray,
    normal: np.ndarray,
    class_names: Sequence[str],
    counts: Sequence[int],
    *,
    name: str = "",
    label: str | None = None,
    class_name: str | None = None,
) -> Seen:
    """Looks at one picture.

    Args:
      model, variables: A network with a head.
      image: uint8 `[H, W, 3]`.
      normal: The same, normalised: float32 `[H, W, 3]`.
      class_names: By number.
      counts: Numbers of regions K of the decision maps.
      name, label: As in `Seen`.
      class_name: The class that importance is about; the predicted one if None.
    """
    images = jnp.asarray(normal)[None]
    seen = look(model, variables, images)
    logits = np.asarray(seen.logits[0], np.float64)
    odds = np.exp(logits - logits.max())
    order = np.argsort(-odds, kind="stable")
    chosen = int(order[0]) if class_name is None else class_names.index(class_name)
    maps = {count: decision_regions(seen, count)[0] for count in counts}
    # All masks of all maps in one pass, always as many, so that it is compiled once.
    masks = np.stack([maps[count] == region for count in counts for region in range(count)])
    found = importance_of_masks(model, variables, images, masks[:, None], jnp.array([chosen]))
    drop_keep = np.stack([found.drop[0], found.keep[0]], axis=-1)
    decisions, scores = {}, {}
    for count, start in zip(counts, np.cumsum([0, *counts]), strict=False):
        regions = int(maps[count].max()) + 1
        # An image with few regions has the same map for several K.
        if regions == count or regions not in map(len, scores.values()):
            decisions[count] = maps[count]
            scores[count] = drop_keep[start : start + regions]
    return Seen(
        name=name,
        image=image,
        label=label,
        top=[(class_names[i], float(odds[i] / odds.sum())) for i in order[:5]],
        clusters=[np.asarray(clusters[0]) for clusters in seen.clusters],
        fields=[np.asarray(field[0]) for field in seen.fields],
        decisions=decisions,
        importance=scores,
        class_name=class_names[chosen],
    )
