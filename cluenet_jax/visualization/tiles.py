"""Tiles with captions, in rows."""

import dataclasses

import numpy as np
from PIL import Image, ImageDraw

from cluenet_jax.visualization.drawing import font

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


def _fit(pixels: np.ndarray | Image.Image, width: int) -> Image.Image:
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    if image.width == width:
        return image
    height = max(round(image.height * width / image.width), 1)
    smaller = image.width > width
    resampling = Image.Resampling.BOX if smaller else Image.Resampling.NEAREST
    return image.resize((width, height), resampling)
