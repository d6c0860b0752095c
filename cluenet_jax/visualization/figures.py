"""Figures: the maps of one image, and the contact sheet of many."""

import dataclasses

import numpy as np
from PIL import Image, ImageDraw

from cluenet_jax.explain import Explanation
from cluenet_jax.visualization.colors import cluster_colors, mean_colors
from cluenet_jax.visualization.drawing import enlarge, font, paint, paint_scores, smooth_regions

_GAP, _LINE = 8, 18


@dataclasses.dataclass(frozen=True)
class Tile:
    """One image of a figure, with a line of text below it."""

    caption: str
    pixels: np.ndarray | Image.Image


def figure(rows: list[list[Tile]], title: str = "", width: int = 224) -> Image.Image:
    """Tiles in rows, each `width` wide, with their captions; `title` may have several lines."""
    text_font = font()
    images = [[_fit(tile.pixels, width) for tile in row] for row in rows]
    heights = [max((i.height for i in row), default=0) + _LINE + _GAP for row in images]
    top = _LINE * len(title.splitlines()) + _GAP
    columns = max(len(row) for row in rows)
    canvas = Image.new("RGB", (columns * (width + _GAP) + _GAP, top + sum(heights)), "white")
    draw = ImageDraw.Draw(canvas)
    draw.multiline_text((_GAP, _GAP // 2), title, "black", text_font)
    y = top
    for row, row_images, height in zip(rows, images, heights, strict=True):
        for column, (tile, image) in enumerate(zip(row, row_images, strict=True)):
            x = _GAP + column * (width + _GAP)
            canvas.paste(image, (x, y))
            draw.text((x, y + image.height + 1), tile.caption, "black", text_font)
        y += height
    return canvas


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
    fields = [blank]
    for stage, field in enumerate(explanation.fields, 1):
        pixels = paint(field, mean_colors(image, field), side)
        fields.append(Tile(f"stage {stage}: {len(np.unique(field))} receptive fields", pixels))
    decisions = [blank]
    for count, regions in explanation.decisions.items():
        caption = f"importance, K = {regions.max() + 1}"
        if smooth:
            regions, caption = smooth_regions(regions, side), f"{caption}, smoothed"
        decisions.append(Tile(caption, paint_scores(regions, explanation.scores(count), side)))
    best = ", ".join(f"{name} {score:.1%}" for name, score in explanation.entries)
    truth = "" if explanation.truth is None else f" (truth: {explanation.truth})"
    title = f"{explanation.name}{truth}\n{best}\nImportance is for: {explanation.target_name}"
    return figure([*rows, fields, decisions], title, side)


def contact_sheet(explanations: list[Explanation], side: int = 128) -> Image.Image:
    """An overview, two images per row: the image, its stages, the first decision map."""
    cells = []
    for explanation in explanations:
        caption = "".join(f"{name} {score:.0%}" for name, score in explanation.entries[:1])
        count, regions = next(iter(explanation.decisions.items()))
        cells.append(
            [
                Tile(caption, enlarge(explanation.image, side)),
                *_stages(explanation, 0, side, "stage {stage}"),
                Tile("importance", paint_scores(regions, explanation.scores(count), side)),
            ]
        )
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


def _fit(pixels: np.ndarray | Image.Image, width: int) -> Image.Image:
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    if image.width == width:
        return image
    height = max(round(image.height * width / image.width), 1)
    smaller = image.width > width
    resampling = Image.Resampling.BOX if smaller else Image.Resampling.NEAREST
    return image.resize((width, height), resampling)
