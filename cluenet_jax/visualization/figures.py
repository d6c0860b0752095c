"""Figures: the maps of one image, and the contact sheet of many."""

import numpy as np
from PIL import Image

from cluenet_jax.explain import Explanation
from cluenet_jax.visualization.colors import cluster_colors, mean_colors
from cluenet_jax.visualization.drawing import enlarge, paint, paint_scores, smooth_regions
from cluenet_jax.visualization.instances import best_stage
from cluenet_jax.visualization.tiles import Tile, figure

# Answers of the model that a title names.
_MAX_ENTRIES = 5


def draw_explanation(
    explanation: Explanation, heads: tuple[int, ...], smooth: bool = False, side: int = 224
) -> Image.Image:
    """The figure of one image: clusters of the stages, receptive fields, decision maps.

    Args:
      explanation: Of the image.
      heads: A row of clusters for each; a stage with fewer heads shows its last one.
      smooth: Whether decision maps are smoothed, as in the paper's figures; the captions say so.
      side: Width of a tile, in pixels.
    """
    image = explanation.image
    blank = Tile("", np.full((side, side, 3), 255, np.uint8))
    height, width = image.shape[:2]
    original = Tile(f"{width} x {height} pixels", enlarge(image, side))
    rows = [
        [blank if row else original, *_stages(explanation, head, side)]
        for row, head in enumerate(heads)
    ]
    answer = explanation.drawing
    fields = [blank if answer is None else Tile("the model's answer", enlarge(answer, side))]
    for stage, field in enumerate(explanation.fields, 1):
        pixels = paint(field, mean_colors(image, field), side)
        fields.append(Tile(f"stage {stage}: {len(np.unique(field))} receptive fields", pixels))
    decisions = [blank]
    for count, regions in explanation.decisions.items():
        caption = f"importance, K = {len(explanation.scores(count))}"
        if smooth:
            regions, caption = smooth_regions(regions, side), f"{caption}, smoothed"
        decisions.append(Tile(caption, paint_scores(regions, explanation.scores(count), side)))
    entries = explanation.entries
    best = ", ".join(f"{name} {score:.1%}" for name, score in entries[:_MAX_ENTRIES])
    if len(entries) > _MAX_ENTRIES:
        best += f" and {len(entries) - _MAX_ENTRIES} more"
    truth = "" if explanation.truth is None else f" (truth: {explanation.truth})"
    best = best or explanation.note
    title = f"{explanation.name}{truth}\n{best}\nImportance is for: {explanation.target_name}"
    return figure([*rows, fields, decisions], title, side)


def contact_sheet(explanations: list[Explanation], side: int = 128) -> Image.Image:
    """An overview, two images per row: the image, its stages, the first decision map.

    On the image is the model's answer, where that is a drawing; where objects were detected, the
    clusters of the best one come last.
    """
    cells = []
    for explanation in explanations:
        caption = "".join(f"{name} {score:.0%}" for name, score in explanation.entries[:1])
        if explanation.note:
            caption = "nothing detected"
        count, regions = next(iter(explanation.decisions.items()))
        image = explanation.image if explanation.drawing is None else explanation.drawing
        cell = [
            Tile(caption, enlarge(image, side)),
            *_stages(explanation, 0, side, "stage {stage}"),
            Tile("importance", paint_scores(regions, explanation.scores(count), side)),
        ]
        if explanation.instances:
            cell.append(best_stage(explanation, explanation.instances[0], side))
        elif explanation.least_score is not None:
            cell.append(Tile("", np.full((side, side, 3), 255, np.uint8)))
        cells.append(cell)
    return figure([sum(cells[i : i + 2], []) for i in range(0, len(cells), 2)], "", side)


def _stages(
    explanation: Explanation, head: int, side: int, caption: str = "stage {stage}, head {head}"
) -> list[Tile]:
    tiles = []
    for stage, clusters in enumerate(explanation.clusters, 1):
        chosen = min(head, len(clusters) - 1)
        index = explanation.stage_map(stage, chosen)
        pixels = paint(index, cluster_colors(index), side)
        tiles.append(Tile(caption.format(stage=stage, head=chosen), pixels))
    return tiles
