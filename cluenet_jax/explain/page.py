"""Pages to look through in a browser: one picture to hover over, and a report of many.

Everything is inside the page: it needs no network. Maps travel as PNG files whose pixels
are the numbers (red + 256 green + 65536 blue); `viewer.js` reads them.
"""

import base64
import html
import importlib.resources
import io
import json

import numpy as np
from PIL import Image

from cluenet_jax.explain import drawing
from cluenet_jax.explain.quality import METHODS, MapScores
from cluenet_jax.explain.seen import Seen

# Worst mistakes that a report shows.
_MISTAKES = 12


def viewer(seen: Seen) -> str:
    """HTML of one picture with its maps; `assets()` must be in the page once."""
    data = {
        "image": _png(seen.image),
        "size": [seen.image.shape[1], seen.image.shape[0]],
        "top": seen.top,
        "className": seen.class_name,
        "stages": [
            {"field": _numbers(field), "grid": list(clusters.shape), "clusters": _stacked(clusters)}
            for field, clusters in zip(seen.fields, seen.clusters, strict=True)
        ],
        "decisions": [
            {
                "count": len(seen.importance[count]),
                "regions": _numbers(regions),
                "dropKeep": np.round(seen.importance[count], 4).tolist(),
                "colors": drawing.score_colors(seen.scores(count)).tolist(),
            }
            for count, regions in seen.decisions.items()
        ],
    }
    return f'<div class="cluenet-viewer" data-picture="{html.escape(json.dumps(data))}"></div>'


def assets() -> str:
    """The style and the script of `viewer`, for a page's head."""
    files = importlib.resources.files("cluenet_jax.explain")
    style = files.joinpath("viewer.css").read_text()
    script = files.joinpath("viewer.js").read_text()
    palette = json.dumps(drawing.PALETTE.tolist())
    script = script.replace("PALETTE_OF_CLUSTERS", palette)
    return f"<style>{style}</style>\n<script>{script}</script>"


def report(
    pictures: list[Seen], about: str, scores: MapScores | None, agreement: dict[str, float] | None
) -> str:
    """A whole page: numbers, the worst mistakes, and every picture beside its maps.

    Args:
      pictures: At least one.
      about: A line on the network.
      scores: Of `evaluate_maps`, or None.
      agreement: Means of `mask_agreement`, or None.
    """
    known = [seen for seen in pictures if seen.label is not None]
    mistakes = sorted((s for s in known if s.wrong), key=lambda seen: -seen.top[0][1])
    parts = [f"<h1>What the network looks at</h1><p>{html.escape(about)}</p>"]
    if known:
        right = len(known) - len(mistakes)
        parts.append(f"<p>{right} of {len(known)} pictures with a known class are right.</p>")
    if scores is not None:
        parts.append("<h2>Are the maps right?</h2>" + _score_table(scores))
    if agreement is not None:
        cells = ", ".join(f"{name} {value:.3f}" for name, value in agreement.items())
        parts.append(f"<p>Agreement of the decision map with the masks: {cells}.</p>")
    if mistakes:
        parts.append("<h2>Worst mistakes</h2>" + _rows(mistakes[:_MISTAKES]))
    parts.append("<h2>Pictures</h2><p>Click a row to enlarge it and to move over its maps.</p>")
    parts.append(_rows(pictures))
    body = "\n".join(parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f'<title>cluenet-jax: maps</title><link rel="icon" href="data:,">{assets()}</head>'
        f'<body class="cluenet-report">{body}<dialog></dialog></body></html>'
    )


def _rows(pictures: list[Seen]) -> str:
    rows = []
    for seen in pictures:
        count, regions = next(iter(seen.decisions.items()))
        tiles = [_png(drawing.enlarge(seen.image, 96))]
        for stage in range(1, 5):
            index = seen.stage_map(stage, head=0)
            tiles.append(_png(drawing.paint(index, drawing.cluster_colors(index), 96)))
        colors = drawing.score_colors(seen.scores(count))[regions]
        tiles.append(_png(drawing.paint(regions, colors, 96)))
        names = ["picture", *(f"stage {s}" for s in range(1, 5)), "importance"]
        images = "".join(
            f'<figure><img src="{url}" alt="{name}"><figcaption>{name}</figcaption></figure>'
            for url, name in zip(tiles, names, strict=True)
        )
        top = "<br>".join(f"{html.escape(name)} {share:.1%}" for name, share in seen.top[:3])
        truth = "" if seen.label is None else f"<br>true: {html.escape(seen.label)}"
        kind = " wrong" if seen.wrong else ""
        rows.append(
            f'<section class="row{kind}" tabindex="0"><div class="words"><b>'
            f"{html.escape(seen.name)}</b><br>{top}{truth}</div>{images}"
            f"<template>{viewer(seen)}</template></section>"
        )
    return "\n".join(rows)


def _score_table(scores: MapScores) -> str:
    about = scores.to_json()
    curves = list(next(iter(about["methods"].values())))
    head = "".join(f"<th>{curve.replace('_', ', ')}</th>" for curve in curves)
    rows = ""
    for method, words in METHODS.items():
        cells = about["methods"][method]
        row = "".join(
            f"<td>{cells[c]['mean']:.3f} ± {cells[c]['interval']:.3f}</td>" for c in curves
        )
        rows += f"<tr><th>{html.escape(words)}</th>{row}</tr>"
    return (
        f"<table><tr><th></th>{head}</tr>{rows}</table><p>Areas under the curves of the predicted "
        f"class's probability, means of {about['images']} pictures with 95 % intervals. Deletion: "
        "less is better; insertion: more is better; what replaces pixels stands after the comma."
        "</p>"
    )


def _png(pixels: np.ndarray) -> str:
    """A data URL."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _numbers(index: np.ndarray) -> str:
    """`[H, W]` integers below 2**24 as a PNG file."""
    index = index.astype(np.uint32)
    return _png(np.stack([index >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8))


def _stacked(clusters: np.ndarray) -> str:
    """`[G, H, W]` as one PNG file of `G*H` rows."""
    return _numbers(clusters.reshape(-1, clusters.shape[-1]))
