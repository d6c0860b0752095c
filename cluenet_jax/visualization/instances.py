"""Figures of detected instances: each cut out, with the clusters that it consists of."""

import numpy as np
from PIL import Image, ImageDraw

from cluenet_jax.explain import Explanation, Instance, best_union
from cluenet_jax.visualization.colors import cluster_colors, score_colors
from cluenet_jax.visualization.drawing import borders
from cluenet_jax.visualization.tiles import Tile, figure

_BOX, _OUTLINE = (240, 228, 66), (255, 255, 255)
# What is left of the light outside an instance.
_DIMMED = 0.35
_TITLE = (
    "Clusters inside detected instances; what is outside the mask is dimmed. IoU, of the part of "
    "the image that is\nshown: of the mask and the best union of clusters, those that are colored "
    "outside too."
)


def draw_instances(
    explanation: Explanation, heads: tuple[int, ...], side: int = 224
) -> Image.Image:
    """The figure of the instances of one image: each cut out, and its clusters at every stage.

    Args:
      explanation: Of an image with instances.
      heads: A row of clusters for each, of each instance; a stage with fewer heads shows its last
        one.
      side: Width of a tile, in pixels.
    """
    rows = []
    for instance in explanation.instances:
        for row, head in enumerate(heads):
            caption = f"{instance.name} {instance.score:.0%}, head {head}"
            cut_out = paint_instance(explanation.image, instance, side)
            tiles = [Tile(caption, np.full_like(cut_out, 255) if row else cut_out)]
            stages = range(1, len(explanation.clusters) + 1)
            rows.append([*tiles, *(_stage(explanation, instance, s, head, side) for s in stages)])
        count, regions = next(iter(explanation.decisions.items()))
        colors = score_colors(explanation.scores(count))[regions]
        rows[-len(heads)].append(_tile("decision", explanation, instance, regions, colors, side))
    return figure(rows, f"{explanation.name}\n{_TITLE}", side)


def best_stage(explanation: Explanation, instance: Instance, side: int) -> Tile:
    """Of the stages' clusters of head 0, those that an instance's mask agrees best with."""
    stages = range(1, len(explanation.clusters) + 1)
    overlaps = {s: _union(explanation.stage_map(s, 0), instance)[1] for s in stages}
    stage = max(overlaps, key=overlaps.get)
    pixels = _stage(explanation, instance, stage, 0, side).pixels
    return Tile(f"{instance.name}: stage {stage}, IoU {overlaps[stage]:.2f}", pixels)


def paint_instance(
    image: np.ndarray,
    instance: Instance,
    side: int,
    index: np.ndarray | None = None,
    colors: np.ndarray | None = None,
    union: np.ndarray | None = None,
) -> np.ndarray:
    """An instance cut out, with its box and the outline of its mask.

    Args:
      image: uint8 `[H, W, 3]`.
      instance: Of this image.
      side: Width of the result, in pixels.
      index: `[H, W]` integers: clusters to show inside the mask, the outside dimmed; None for the
        plain image.
      colors: uint8 `[H, W, 3]`, of the clusters.
      union: The numbers of the clusters that are colored outside the mask too.

    Returns:
      uint8 `[h, side, 3]`.
    """
    window = instance.window
    (top, bottom), (left, right) = ((s.start, s.stop) for s in window)
    scale = side / (right - left)
    height = max(round((bottom - top) * scale), 1)
    rows = top + np.arange(height) * (bottom - top) // height
    columns = left + np.arange(side) * (right - left) // side
    grid = np.ix_(rows, columns)
    resampling = Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST
    pixels = np.asarray(Image.fromarray(image[window]).resize((side, height), resampling))
    mask = instance.mask[grid]
    if index is not None:
        cluster = index[grid]
        mixed = ((pixels.astype(np.uint16) + colors[grid]) // 2).astype(np.uint8)
        mixed[borders(cluster) & mask] = (0, 0, 0)
        pixels = np.where((mask | np.isin(cluster, union))[..., None], mixed, pixels)
        pixels = np.where(mask[..., None], pixels, (_DIMMED * pixels).astype(np.uint8))
    pixels = np.array(pixels)
    pixels[_outline(mask)] = _OUTLINE
    drawn = Image.fromarray(pixels)
    x1, y1, x2, y2 = (instance.box - np.array([left, top, left, top])) * scale
    ImageDraw.Draw(drawn).rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=_BOX)
    return np.asarray(drawn)


def _outline(mask: np.ndarray) -> np.ndarray:
    """bool `[h, w]`: two pixels along the edge of a mask, one on each side."""
    edge = borders(mask)
    edge[:, 1:] |= mask[:, :-1] != mask[:, 1:]
    edge[1:] |= mask[:-1] != mask[1:]
    return edge


def _stage(explanation: Explanation, instance: Instance, stage: int, head: int, side: int) -> Tile:
    index = explanation.stage_map(stage, head)
    return _tile(f"stage {stage}", explanation, instance, index, cluster_colors(index), side)


def _tile(
    name: str,
    explanation: Explanation,
    instance: Instance,
    index: np.ndarray,
    colors: np.ndarray,
    side: int,
) -> Tile:
    union, iou = _union(index, instance)
    pixels = paint_instance(explanation.image, instance, side, index, colors, union)
    clusters = "cluster" if len(union) == 1 else "clusters"
    return Tile(f"{name}: {len(union)} {clusters}, IoU {iou:.2f}", pixels)


def _union(index: np.ndarray, instance: Instance) -> tuple[np.ndarray, float]:
    return best_union(index[instance.window], instance.mask[instance.window])
