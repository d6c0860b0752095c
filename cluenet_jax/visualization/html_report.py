"""HTML to look through in a browser: one image to hover over, and a report of many.

Everything is inside the file: it needs no internet. Maps travel as PNG files whose pixels
are the numbers (red + 256 green + 65536 blue); `viewer.js` reads them.
"""

import base64
import html
import importlib.resources
import io
import json
from collections.abc import Mapping

import numpy as np
from PIL import Image

from cluenet_jax.explain import Explanation, Faithfulness
from cluenet_jax.visualization.colors import PALETTE, cluster_colors, score_colors
from cluenet_jax.visualization.drawing import enlarge, paint
from cluenet_jax.visualization.instances import best_stage

# Worst mistakes that a report shows.
_MISTAKES = 12


def viewer(explanation: Explanation) -> str:
    """HTML of one image with its maps; `assets()` must be in the document once."""
    image = explanation.image
    data = {
        "image": _png(image),
        "size": [image.shape[1], image.shape[0]],
        "entries": explanation.entries,
        "note": explanation.note,
        "drawing": None if explanation.drawing is None else _png(explanation.drawing),
        "targetName": explanation.target_name,
        "stages": [
            {"field": _numbers(field), "grid": list(clusters.shape), "clusters": _stacked(clusters)}
            for field, clusters in zip(explanation.fields, explanation.clusters, strict=True)
        ],
        "decisions": [
            {
                "count": len(explanation.importance[count]),
                "regions": _numbers(regions),
                "dropKeep": np.round(explanation.importance[count], 4).tolist(),
                "colors": score_colors(explanation.scores(count)).tolist(),
            }
            for count, regions in explanation.decisions.items()
        ],
    }
    return f'<div class="cluenet-viewer" data-explanation="{html.escape(json.dumps(data))}"></div>'


def assets() -> str:
    """The style and the script of `viewer`, for a document's head."""
    files = importlib.resources.files("cluenet_jax.visualization")
    style = files.joinpath("viewer.css").read_text()
    script = files.joinpath("viewer.js").read_text()
    script = script.replace("PALETTE_OF_CLUSTERS", json.dumps(PALETTE.tolist()))
    return f"<style>{style}</style>\n<script>{script}</script>"


def report(
    explanations: list[Explanation],
    model_line: str,
    faithfulness: Faithfulness | None,
    comparison: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> str:
    """A whole document: numbers, the worst mistakes, and every image beside its maps.

    Args:
      explanations: At least one.
      model_line: A line that names the model.
      faithfulness: Of `evaluate_explanations`, or None.
      comparison: Of `PartitionComparison.compute`; empty if no image has a mask.
    """
    known = [e for e in explanations if e.truth is not None]
    mistakes = sorted((e for e in known if e.wrong), key=lambda e: -_best_score(e))
    parts = [f"<h1>What the model looks at</h1><p>{html.escape(model_line)}</p>"]
    if known:
        right = len(known) - len(mistakes)
        parts.append(f"<p>{right} of {len(known)} images with a known truth are right.</p>")
    if faithfulness is not None:
        parts.append("<h2>Faithfulness of the maps</h2>" + _faithfulness_table(faithfulness))
    if comparison:
        parts.append("<h2>Clusters against masks</h2>" + _comparison_table(comparison))
    if mistakes:
        parts.append("<h2>Worst mistakes</h2>" + _rows(mistakes[:_MISTAKES]))
    parts.append("<h2>Images</h2><p>Click a row to enlarge it and to move over its maps.</p>")
    parts.append(_rows(explanations))
    body = "\n".join(parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f'<title>cluenet-jax: maps</title><link rel="icon" href="data:,">{assets()}</head>'
        f'<body class="cluenet-report">{body}<dialog></dialog></body></html>'
    )


def _best_score(explanation: Explanation) -> float:
    return max((score for _, score in explanation.entries), default=0.0)


def _rows(explanations: list[Explanation]) -> str:
    rows = []
    for explanation in explanations:
        count, regions = next(iter(explanation.decisions.items()))
        tiles = {"image": _png(enlarge(explanation.image, 96))}
        if explanation.drawing is not None:
            tiles["answer"] = _png(explanation.drawing)
        for stage in range(1, len(explanation.clusters) + 1):
            index = explanation.stage_map(stage, head=0)
            tiles[f"stage {stage}"] = _png(paint(index, cluster_colors(index), 96))
        colors = score_colors(explanation.scores(count))[regions]
        tiles["importance"] = _png(paint(regions, colors, 96))
        if explanation.instances:
            tile = best_stage(explanation, explanation.instances[0], 112)
            tiles[tile.caption] = _png(tile.pixels)
        images = "".join(
            f'<figure><img src="{url}" alt="{name}"><figcaption>{name}</figcaption></figure>'
            for name, url in ((html.escape(name), url) for name, url in tiles.items())
        )
        entries = "<br>".join(
            f"{html.escape(name)} {score:.1%}" for name, score in explanation.entries[:3]
        )
        entries = entries or explanation.note
        truth = "" if explanation.truth is None else f"<br>true: {html.escape(explanation.truth)}"
        kind = " wrong" if explanation.wrong else ""
        rows.append(
            f'<section class="row{kind}" tabindex="0"><div class="caption"><b>'
            f"{html.escape(explanation.name)}</b><br>{entries}{truth}</div>{images}"
            f"<template>{viewer(explanation)}</template></section>"
        )
    return "\n".join(rows)


def _faithfulness_table(faithfulness: Faithfulness) -> str:
    numbers = faithfulness.to_json()
    curves = list(next(iter(numbers["methods"].values())))
    head = "".join(f"<th>{curve.replace('_', ', ')}</th>" for curve in curves)
    rows = ""
    for method, title in faithfulness.methods.items():
        cells = numbers["methods"][method]
        row = "".join(
            f"<td>{cells[c]['mean']:.3f} ± {cells[c]['interval']:.3f}</td>" for c in curves
        )
        rows += f"<tr><th>{html.escape(title)}</th>{row}</tr>"
    return (
        f"<table><tr><th></th>{head}</tr>{rows}</table><p>Areas under the curves of the best "
        f"target's score, means of {numbers['images']} images with 95 % intervals. Deletion: "
        "less is better; insertion: more is better; what replaces pixels is after the comma."
        "</p>"
    )


def _comparison_table(comparison: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    head = "".join(
        f"<th>{html.escape(measure)}</th>" for measure in next(iter(comparison.values()))
    )
    rows = ""
    for name, row in comparison.items():
        cells = "".join(
            f"<td>{v['mean']:.3f} ({v['low']:.3f} .. {v['high']:.3f})</td>" for v in row.values()
        )
        rows += f"<tr><th>{html.escape(name)}</th>{cells}</tr>"
    return (
        f"<table><tr><th></th>{head}</tr>{rows}</table><p>Means over images with 95 % intervals; "
        "of a stage with several maps the mean of them. Undersegmentation: less is better.</p>"
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
