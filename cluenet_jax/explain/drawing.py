"""Maps as pictures: colours, borders, overlays and the figure of an image (NumPy and Pillow)."""

import dataclasses

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cluenet_jax.explain.seen import Seen

# Okabe and Ito's colours, which colour-blind readers tell apart.
_HUES = np.array(
    [
        (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66),
        (0, 114, 178), (213, 94, 0), (204, 121, 167), (120, 120, 120),
    ]
)  # fmt: skip
# Full, darker, lighter: 24 colours, then they repeat (borders still part the clusters).
PALETTE = np.concatenate([_HUES, _HUES * 0.55, 255 - (255 - _HUES) * 0.45]).astype(np.uint8)
# Points of the colour map cividis (J. Nuñez et al., 2018), even for colour-blind readers.
_CIVIDIS = np.array([(0, 34, 78), (61, 78, 108), (124, 123, 120), (188, 175, 111), (254, 232, 56)])

_GAP, _LINE = 8, 18


def cluster_colors(index: np.ndarray) -> np.ndarray:
    """uint8 `[..., 3]`: the colour of a cluster depends on its number alone."""
    return PALETTE[np.asarray(index) % len(PALETTE)]


def score_colors(scores: np.ndarray) -> np.ndarray:
    """uint8 `[..., 3]`, from dark blue for the least of the scores to yellow for the greatest."""
    scores = np.asarray(scores, float)
    spread = max(scores.max() - scores.min(), 1e-6)
    at = (scores - scores.min()) / spread * (len(_CIVIDIS) - 1)
    low = np.minimum(at.astype(int), len(_CIVIDIS) - 2)
    part = (at - low)[..., None]
    return np.round(_CIVIDIS[low] * (1 - part) + _CIVIDIS[low + 1] * part).astype(np.uint8)


def borders(index: np.ndarray) -> np.ndarray:
    """bool `[H, W]`: pixels whose right or lower neighbour has another number."""
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


def mean_colors(image: np.ndarray, field: np.ndarray) -> np.ndarray:
    """uint8 `[H, W, 3]`: every region of `field` in the mean colour of its pixels."""
    flat = field.reshape(-1)
    count = np.maximum(np.bincount(flat), 1)
    pixels = image.reshape(-1, 3).astype(float)
    means = [np.bincount(flat, pixels[:, c]) / count for c in range(3)]
    return np.stack(means, axis=-1)[flat].reshape(image.shape).astype(np.uint8)


def smooth_regions(regions: np.ndarray, side: int) -> np.ndarray:
    """Enlarges regions `[H, W]` with soft borders, as the paper's figures do; still a partition.

    Each region's share of a pixel (enlarged bilinearly, to the power 1.5, averaged over 13x13
    pixels) is compared; the greatest wins.
    """
    from scipy.ndimage import uniform_filter

    height, width = (n * max(-(-side // max(regions.shape)), 1) for n in regions.shape)
    shares = []
    for region in range(regions.max() + 1):
        mask = Image.fromarray((regions == region).astype(np.float32))
        soft = np.asarray(mask.resize((width, height), Image.Resampling.BILINEAR))
        shares.append(uniform_filter(soft**1.5, size=13, mode="nearest"))
    return np.argmax(shares, axis=0).astype(np.int32)


def paint_scores(regions: np.ndarray, scores: np.ndarray, side: int) -> Image.Image:
    """Regions `[H, W]` in the colour of their scores `[K]`, with the number in each."""
    large = enlarge(regions, side)
    picture = Image.fromarray(paint(large, score_colors(scores)[large], 1))
    draw, font = ImageDraw.Draw(picture), _font()
    for region, score in enumerate(scores):
        inside = np.argwhere(large == region)
        if not len(inside):
            continue
        # The region's own pixel nearest to its middle: regions need not be convex.
        row, column = inside[np.argmin(((inside - inside.mean(axis=0)) ** 2).sum(axis=1))]
        draw.text(
            (int(column), int(row)), f"{score:.2f}", (255, 255, 255), font, "mm",
            stroke_width=2, stroke_fill=(0, 0, 0),
        )  # fmt: skip
    return picture


@dataclasses.dataclass(frozen=True)
class Tile:
    """One picture of a figure, with a line of text below it."""

    caption: str
    pixels: np.ndarray | Image.Image


def figure(rows: list[list[Tile]], title: str = "", width: int = 224) -> Image.Image:
    """Tiles in rows, each `width` wide, with their captions; `title` may have several lines."""
    font = _font()
    pictures = [[_fit(tile.pixels, width) for tile in row] for row in rows]
    heights = [max((p.height for p in row), default=0) + _LINE + _GAP for row in pictures]
    top = _LINE * len(title.splitlines()) + _GAP
    columns = max(len(row) for row in rows)
    sheet = Image.new("RGB", (columns * (width + _GAP) + _GAP, top + sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.multiline_text((_GAP, _GAP // 2), title, "black", font)
    y = top
    for row, images, height in zip(rows, pictures, heights, strict=True):
        for column, (tile, picture) in enumerate(zip(row, images, strict=True)):
            x = _GAP + column * (width + _GAP)
            sheet.paste(picture, (x, y))
            draw.text((x, y + picture.height + 1), tile.caption, "black", font)
        y += height
    return sheet


def draw(seen: Seen, heads: tuple[int, ...], smooth: bool = False, side: int = 224) -> Image.Image:
    """The figure of one picture: clusters of the stages, receptive fields, decision maps.

    Args:
      heads: A row of clusters for each; a stage with fewer heads shows its last one.
      smooth: Smooth the decision maps, as the paper's figures do; the captions say so.
    """
    blank = Tile("", np.full((side, side, 3), 255, np.uint8))
    height, width = seen.image.shape[:2]
    picture = Tile(f"{width} x {height} pixels", enlarge(seen.image, side))
    rows = [
        [blank if row else picture, *_stages(seen, head, side)] for row, head in enumerate(heads)
    ]
    fields = [blank]
    for stage, field in enumerate(seen.fields, 1):
        pixels = paint(field, mean_colors(seen.image, field), side)
        fields.append(Tile(f"stage {stage}: {len(np.unique(field))} receptive fields", pixels))
    decisions = [blank]
    for count, regions in seen.decisions.items():
        caption = f"importance, K = {regions.max() + 1}"
        if smooth:
            regions, caption = smooth_regions(regions, side), f"{caption}, smoothed"
        decisions.append(Tile(caption, paint_scores(regions, seen.scores(count), side)))
    best = ", ".join(f"{name} {share:.1%}" for name, share in seen.top)
    truth = "" if seen.label is None else f" (true class: {seen.label})"
    title = f"{seen.name}{truth}\n{best}\nImportance is for: {seen.class_name}"
    return figure([*rows, fields, decisions], title, side)


def sheet(pictures: list[Seen], side: int = 128) -> Image.Image:
    """An overview, two pictures per row: the picture, four stages, the first decision map."""
    cells = []
    for seen in pictures:
        name, share = seen.top[0]
        count, regions = next(iter(seen.decisions.items()))
        cells.append(
            [
                Tile(f"{name} {share:.0%}", enlarge(seen.image, side)),
                *_stages(seen, 0, side, "stage {stage}"),
                Tile("importance", paint_scores(regions, seen.scores(count), side)),
            ]
        )
    return figure([sum(cells[i : i + 2], []) for i in range(0, len(cells), 2)], "", side)


def _stages(
    seen: Seen, head: int, side: int, caption: str = "stage {stage}, head {head}"
) -> list[Tile]:
    tiles = []
    for stage, clusters in enumerate(seen.clusters, 1):
        chosen = min(head, len(clusters) - 1)
        index = seen.stage_map(stage, chosen)
        pixels = paint(index, cluster_colors(index), side)
        tiles.append(Tile(caption.format(stage=stage, head=chosen), pixels))
    return tiles


def _fit(pixels: np.ndarray | Image.Image, width: int) -> Image.Image:
    picture = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    if picture.width == width:
        return picture
    height = max(round(picture.height * width / picture.width), 1)
    smaller = picture.width > width
    way = Image.Resampling.BOX if smaller else Image.Resampling.NEAREST
    return picture.resize((width, height), way)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(13)
