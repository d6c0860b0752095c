"""Drawing of one map: borders, overlays, smooth regions, scores in their regions."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cluenet_jax.visualization.colors import cluster_colors, score_colors


def borders(index: np.ndarray) -> np.ndarray:
    """bool `[H, W]`: pixels whose right or lower neighbor has another number."""
    edge = np.zeros(index.shape, bool)
    edge[:, :-1] |= index[:, :-1] != index[:, 1:]
    edge[:-1] |= index[:-1] != index[1:]
    return edge


def enlarge(pixels: np.ndarray, side: int) -> np.ndarray:
    """Repeats pixels `[H, W, ...]` until the longer side is at least `side`."""
    factor = max(-(-side // max(pixels.shape[:2])), 1)
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def paint(index: np.ndarray, colors: np.ndarray, side: int) -> np.ndarray:
    """uint8 `[h, w, 3]`: pixels `[H, W]` in `colors` `[H, W, 3]`, enlarged, borders drawn."""
    pixels = enlarge(colors, side)
    pixels[borders(enlarge(index, side))] = (0, 0, 0)
    return pixels


def overlay(
    image: np.ndarray, index: np.ndarray, side: int, colors: np.ndarray | None = None
) -> np.ndarray:
    """uint8 `[h, w, 3]`: clusters `[H, W]` over the image `[H, W, 3]`, half and half."""
    colors = cluster_colors(index) if colors is None else colors
    mixed = (image.astype(np.uint16) + colors) // 2
    return paint(index, mixed.astype(np.uint8), side)


def smooth_regions(regions: np.ndarray, side: int) -> np.ndarray:
    """Enlarges regions `[H, W]` with soft borders, as the paper's figures do; still a partition.

    The regions' masks (enlarged bilinearly, to the power 1.5, averaged over 13x13 pixels) are
    compared at each pixel; the greatest wins.
    """
    from scipy.ndimage import uniform_filter

    height, width = (n * max(-(-side // max(regions.shape)), 1) for n in regions.shape)
    soft_masks = []
    for region in range(regions.max() + 1):
        mask = Image.fromarray((regions == region).astype(np.float32))
        soft = np.asarray(mask.resize((width, height), Image.Resampling.BILINEAR))
        soft_masks.append(uniform_filter(soft**1.5, size=13, mode="nearest"))
    return np.argmax(soft_masks, axis=0).astype(np.int32)


def paint_scores(regions: np.ndarray, scores: np.ndarray, side: int) -> Image.Image:
    """Regions `[H, W]` in the color of their scores `[K]`, with the number in each."""
    large = enlarge(regions, side)
    image = Image.fromarray(paint(large, score_colors(scores)[large], 1))
    draw, text_font = ImageDraw.Draw(image), font()
    for region, score in enumerate(scores):
        inside = np.argwhere(large == region)
        if not len(inside):
            continue
        # The region's own pixel nearest to its middle: regions need not be convex.
        row, column = inside[np.argmin(((inside - inside.mean(axis=0)) ** 2).sum(axis=1))]
        draw.text(
            (int(column), int(row)), f"{score:.2f}", (255, 255, 255), text_font, "mm",
            stroke_width=2, stroke_fill=(0, 0, 0),
        )  # fmt: skip
    return image


def font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font of all text in images."""
    return ImageFont.load_default(13)
