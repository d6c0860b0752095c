"""Agreement of partitions of images with segmentation masks, and of the images' averages."""

from collections.abc import Mapping

import numpy as np

# Measures of `mask_agreement`.
MEASURES = ("miou", "nmi", "ari", "asa", "undersegmentation", "boundary_recall")


def mask_agreement(
    regions: np.ndarray, masks: np.ndarray, tolerance: int = 2
) -> dict[str, np.ndarray]:
    """How well regions agree with segmentation masks, image by image.

    Args:
      regions: `[B, H, W]` integers, any partition; its regions need not be connected.
      masks: `[B, H, W]` integers, the true segments; negative: not counted.
      tolerance: Distance in pixels, along rows and columns, up to which a boundary is found.

    Returns:
      float `[B]` each, by the names in `MEASURES`; NaN for an image without any counted pixel.

      `miou`: the mean over the true segments of the intersection over union with their region,
      under the best one-to-one matching (a segment without a region counts 0). `nmi` and
      `ari`: normalized mutual information and the adjusted Rand index. `asa`, achievable
      segmentation accuracy: the fraction of pixels that is right if every region takes the
      segment that it overlaps most. `undersegmentation`, the error: pixels of regions that lie
      on the smaller side of a segment's boundary, by the number of pixels; 0 is perfect.
      `boundary_recall`: the fraction of the true boundaries' pixels with a boundary of the
      regions within `tolerance`; NaN for a mask without boundaries.

    Raises:
      ValueError: The shapes differ.

    Source: M.-Y. Liu et al., Entropy Rate Superpixel Segmentation, CVPR 2011 (asa); P. Neubert
    and P. Protzel, Superpixel Benchmark and Comparison, 2012 (undersegmentation).
    """
    regions, masks = np.asarray(regions), np.asarray(masks)
    if regions.shape != masks.shape:
        raise ValueError(f"regions have shape {regions.shape}, masks {masks.shape}.")
    rows = [
        {**_agreement(r[m >= 0], m[m >= 0]), "boundary_recall": boundary_recall(r, m, tolerance)}
        for r, m in zip(regions, masks, strict=True)
    ]
    return {name: np.array([row[name] for row in rows]) for name in MEASURES}


def _agreement(regions: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    if not mask.size:
        return dict.fromkeys(MEASURES, np.nan)
    both = contingency_matrix(mask, regions)
    union = both.sum(axis=1, keepdims=True) + both.sum(axis=0, keepdims=True) - both
    overlap = both / union
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    return dict(
        miou=overlap[rows, columns].sum() / len(both),
        nmi=normalized_mutual_info_score(mask, regions),
        ari=adjusted_rand_score(mask, regions),
        asa=both.max(axis=0).sum() / mask.size,
        undersegmentation=np.minimum(both, both.sum(axis=0) - both).sum() / mask.size,
    )


def boundary_recall(regions: np.ndarray, mask: np.ndarray, tolerance: int) -> float:
    """As in `mask_agreement`, of one image `[H, W]`.

    A boundary is where a pixel and its neighbor to the right or below differ, and is of both;
    of the mask's, only where both are counted.
    """
    from scipy.ndimage import maximum_filter

    true = _boundaries(mask, mask >= 0)
    near = maximum_filter(_boundaries(regions, np.ones_like(true)), 2 * tolerance + 1)
    return float(near[true].mean()) if true.any() else np.nan


def _boundaries(index: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """bool `[H, W]`: pixels beside one of another number."""
    edges = np.zeros(index.shape, bool)
    rows = (index[1:] != index[:-1]) & counted[1:] & counted[:-1]
    columns = (index[:, 1:] != index[:, :-1]) & counted[:, 1:] & counted[:, :-1]
    edges[1:] |= rows
    edges[:-1] |= rows
    edges[:, 1:] |= columns
    edges[:, :-1] |= columns
    return edges


def bootstrap_interval(
    values: np.ndarray, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """A confidence interval of the mean over images, by drawing images with replacement.

    Args:
      values: `[B]`, one of each image; NaN is left out.
      level: Fraction of the draws' means that are inside.
      draws: Number of draws.
      seed: Of the draws.

    Returns:
      The bounds; NaN if there are no values.
    """
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    if not values.size:
        return np.nan, np.nan
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(values.size, size=values.size)].mean() for _ in range(draws)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


class PartitionComparison:
    """Agreement of several partitions of the same images with their masks, streamed."""

    def __init__(self):
        self._values: dict[str, dict[str, list[float]]] = {}

    def add(
        self, partitions: Mapping[str, np.ndarray], mask: np.ndarray, tolerance: int = 2
    ) -> None:
        """Counts an image.

        Args:
          partitions: By name, integers `[H, W]`, or `[G, H, W]`, whose mean counts.
          mask: `[H, W]` integers, the true segments; negative: not counted.
          tolerance: As for `mask_agreement`.
        """
        for name, regions in partitions.items():
            regions = regions.reshape(-1, *mask.shape)
            agreement = mask_agreement(regions, np.stack([mask] * len(regions)), tolerance)
            rows = self._values.setdefault(name, {measure: [] for measure in MEASURES})
            for measure, values in agreement.items():
                rows[measure].append(float(values.mean()))

    def compute(self) -> dict[str, dict[str, dict[str, float]]]:
        """By name and measure: `mean` over images, and `low` and `high`, its 95 % interval."""
        return {
            name: {measure: _summary(np.array(values)) for measure, values in rows.items()}
            for name, rows in self._values.items()
        }

    def to_text(self) -> str:
        """A table for people: a line per partition, each mean and half its interval's width."""
        width = max(map(len, ("partition", *self._values)))
        lines = [f"{'partition':{width}}" + "".join(f"  {name:>17}" for name in MEASURES)]
        for name, row in self.compute().items():
            cells = (f"{v['mean']:.3f} ± {(v['high'] - v['low']) / 2:.3f}" for v in row.values())
            lines.append(f"{name:{width}}" + "".join(f"  {cell:>17}" for cell in cells))
        return "\n".join(lines)


def _summary(values: np.ndarray) -> dict[str, float]:
    low, high = bootstrap_interval(values)
    known = values[~np.isnan(values)]
    return {"mean": float(known.mean()) if known.size else np.nan, "low": low, "high": high}
