"""Colors of clusters, scores and regions."""

import numpy as np

# Okabe and Ito's colors, which color-blind readers tell apart.
_HUES = np.array(
    [
        (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66),
        (0, 114, 178), (213, 94, 0), (204, 121, 167), (120, 120, 120),
    ]
)  # fmt: skip
# Full, darker, lighter: 24 colors, then they repeat (borders still part the clusters).
PALETTE = np.concatenate([_HUES, _HUES * 0.55, 255 - (255 - _HUES) * 0.45]).astype(np.uint8)
# Points of the color map cividis (J. Nuñez et al., 2018), even for color-blind readers.
_CIVIDIS = np.array([(0, 34, 78), (61, 78, 108), (124, 123, 120), (188, 175, 111), (254, 232, 56)])


def cluster_colors(index: np.ndarray) -> np.ndarray:
    """uint8 `[..., 3]`: the color of a cluster depends on its number alone."""
    return PALETTE[np.asarray(index) % len(PALETTE)]


def score_colors(scores: np.ndarray) -> np.ndarray:
    """uint8 `[..., 3]`, from dark blue for the least of the scores to yellow for the greatest."""
    scores = np.asarray(scores, float)
    extent = max(scores.max() - scores.min(), 1e-6)
    position = (scores - scores.min()) / extent * (len(_CIVIDIS) - 1)
    low = np.minimum(position.astype(int), len(_CIVIDIS) - 2)
    fraction = (position - low)[..., None]
    mixed = _CIVIDIS[low] * (1 - fraction) + _CIVIDIS[low + 1] * fraction
    return np.round(mixed).astype(np.uint8)


def mean_colors(image: np.ndarray, field: np.ndarray) -> np.ndarray:
    """uint8 `[H, W, 3]`: every region of `field` in the mean color of its pixels."""
    flat = field.reshape(-1)
    count = np.maximum(np.bincount(flat), 1)
    pixels = image.reshape(-1, 3).astype(float)
    means = [np.bincount(flat, pixels[:, c]) / count for c in range(3)]
    return np.stack(means, axis=-1)[flat].reshape(image.shape).astype(np.uint8)
