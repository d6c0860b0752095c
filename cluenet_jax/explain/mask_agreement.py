"""Agreement of regions with segmentation masks: mIoU after matching, NMI and ARI."""

import numpy as np


def mask_agreement(regions: np.ndarray, masks: np.ndarray) -> dict[str, np.ndarray]:
    """How well regions agree with segmentation masks, image by image.

    Args:
      regions: `[B, H, W]` integers, any partition.
      masks: `[B, H, W]` integers, the true segments; negative: not counted.

    Returns:
      float `[B]` each: `miou`, the mean over the true segments of the intersection over union
      with their region, under the best one-to-one matching (a segment without a region counts
      0); `nmi` and `ari`, normalized mutual information and the adjusted Rand index. NaN
      for an image without any counted pixel.

    Raises:
      ValueError: The shapes differ.
    """
    regions, masks = np.asarray(regions), np.asarray(masks)
    if regions.shape != masks.shape:
        raise ValueError(f"regions have shape {regions.shape}, masks {masks.shape}.")
    rows = [_agreement(r[m >= 0], m[m >= 0]) for r, m in zip(regions, masks, strict=True)]
    return {name: np.array([row[name] for row in rows]) for name in ("miou", "nmi", "ari")}


def _agreement(regions: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    if not mask.size:
        return dict(miou=np.nan, nmi=np.nan, ari=np.nan)
    both = contingency_matrix(mask, regions)
    union = both.sum(axis=1, keepdims=True) + both.sum(axis=0, keepdims=True) - both
    overlap = both / union
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    return dict(
        miou=overlap[rows, columns].sum() / len(both),
        nmi=normalized_mutual_info_score(mask, regions),
        ari=adjusted_rand_score(mask, regions),
    )
