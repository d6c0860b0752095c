"""The figure of a pose: the keypoints on the clusters that they are in."""

import numpy as np
from PIL import Image, ImageDraw

from cluenet_jax.explain import Explanation
from cluenet_jax.visualization.colors import cluster_colors, score_colors
from cluenet_jax.visualization.drawing import enlarge, overlay
from cluenet_jax.visualization.tiles import Tile, figure

_TITLE = "Clusters that keypoints are in; the others are left as they are."
_DOT, _EDGE = (240, 228, 66), (0, 0, 0)


def draw_keypoints(
    explanation: Explanation, heads: tuple[int, ...], side: int = 224
) -> Image.Image:
    """The figure of one image: a row for each head, a tile for each stage and the decision map.

    Args:
      explanation: Of an image with keypoints.
      heads: A row of clusters for each; a stage with fewer heads shows its last one.
      side: Longer side of a tile, in pixels.
    """
    image, rows = explanation.image, []
    for row, head in enumerate(heads):
        plain = explanation.image if row == 0 else np.full_like(image, 255)
        tiles = [Tile(f"head {head}", _with_dots(enlarge(plain, side), explanation))]
        for stage in range(1, len(explanation.clusters) + 1):
            index = explanation.stage_map(stage, head)
            tiles.append(_tile(f"stage {stage}", explanation, index, cluster_colors(index), side))
        rows.append(tiles)
    count, regions = next(iter(explanation.decisions.items()))
    colors = score_colors(explanation.scores(count))[regions]
    rows[0].append(_tile("decision", explanation, regions, colors, side))
    return figure(rows, f"{explanation.name}\n{_TITLE}", side)


def _tile(
    name: str, explanation: Explanation, index: np.ndarray, colors: np.ndarray, side: int
) -> Tile:
    """The clusters with a keypoint in them in color, the others as the image is."""
    height, width = index.shape
    owners = set()
    for _, _, x, y in explanation.keypoints:
        row, column = min(max(int(y + 0.5), 0), height - 1), min(max(int(x + 0.5), 0), width - 1)
        owners.add(int(index[row, column]))
    owned = np.isin(index, [*owners])
    mixed = np.where(owned[..., None], colors, explanation.image).astype(np.uint8)
    pixels = _with_dots(overlay(explanation.image, index, side, mixed), explanation)
    clusters = "cluster" if len(owners) == 1 else "clusters"
    return Tile(f"{name}: {len(owners)} {clusters}", pixels)


def _with_dots(pixels: np.ndarray, explanation: Explanation) -> np.ndarray:
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    scale = pixels.shape[1] / explanation.image.shape[1]
    radius = 3 if len(explanation.keypoints) <= 30 else 1
    for _, _, x, y in explanation.keypoints:
        x, y = (x + 0.5) * scale, (y + 0.5) * scale
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), _DOT, _EDGE)
    return np.asarray(image)
