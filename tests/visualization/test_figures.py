"""Figures and the HTML report of explanations, without a model."""

import base64
import html
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from cluenet_jax import visualization
from cluenet_jax.explain import Explanation


def explanation(**changes):
    field = np.arange(64, dtype=np.int32).reshape(8, 8) // 16
    fields = [np.arange(64, dtype=np.int32).reshape(8, 8), field, field, field]
    clusters = [np.arange(128, dtype=np.int32).reshape(2, 8, 8)]
    clusters += [np.arange(4, dtype=np.int32).reshape(1, 2, 2)] * 3
    values = dict(
        name="<a>.png",
        image=np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8),
        truth="cat",
        entries=[("cat", 0.75), ("dog", 0.25)],
        clusters=clusters,
        fields=fields,
        decisions={2: (field > 1).astype(np.int32)},
        importance={2: np.array([[0.1, 0.3], [0.2, 0.6]], np.float32)},
        target_name="cat",
    )
    return Explanation(**{**values, **changes})


@pytest.mark.parametrize("smooth", [False, True])
def test_a_figure_has_a_row_for_each_head(smooth):
    figures = [
        visualization.draw_explanation(explanation(), heads, smooth, side=64)
        for heads in ((0,), (0, 1))
    ]
    assert figures[0].width == figures[1].width > 5 * 64
    assert figures[1].height > figures[0].height + 64


def test_a_contact_sheet_has_two_images_per_row():
    sizes = [visualization.contact_sheet([explanation()] * n, side=32).size for n in (1, 2, 3)]
    assert sizes[1][0] > 2 * 6 * 32 > sizes[0][0]
    assert sizes[1][1] == sizes[0][1] and sizes[2][1] > sizes[1][1] + 32


def test_images_without_answers_are_drawn_too():
    blank = explanation(entries=[], truth=None)
    visualization.draw_explanation(blank, (0,), side=32)
    visualization.contact_sheet([blank], side=32)
    assert "known truth" not in visualization.report([blank], "model", None, None)


def test_the_viewer_has_the_numbers_of_the_maps():
    shown = explanation()
    (text,) = re.findall(r'data-explanation="([^"]*)"', visualization.viewer(shown))
    data = json.loads(html.unescape(text))
    assert data["targetName"] == "cat" and data["entries"] == [["cat", 0.75], ["dog", 0.25]]

    def numbers(url):
        file = io.BytesIO(base64.b64decode(url.split(",")[1]))
        return np.asarray(Image.open(file)).astype(int) @ [1, 256, 65536]

    stage, decision = data["stages"][0], data["decisions"][0]
    assert stage["grid"] == [2, 8, 8]
    np.testing.assert_array_equal(numbers(stage["field"]), shown.fields[0])
    clusters = numbers(stage["clusters"]).reshape(stage["grid"])
    np.testing.assert_array_equal(clusters, shown.clusters[0])
    np.testing.assert_array_equal(numbers(decision["regions"]), shown.decisions[2])
    np.testing.assert_allclose(decision["dropKeep"], shown.importance[2])


def test_a_report_counts_the_mistakes_and_escapes_names():
    wrong = explanation(truth="dog")
    unknown = explanation(truth=None)
    comparison = {"stage <1>": {"miou": {"mean": 0.5, "low": 0.25, "high": 0.75}}}
    text = visualization.report([explanation(), wrong, unknown], "a <model>", None, comparison)
    assert "1 of 2 images with a known truth are right" in text
    assert text.count('class="row wrong"') == 2  # among mistakes, among all
    assert "a &lt;model&gt;" in text and "<a>.png" not in text and "0.500 (0.250 .. 0.750)" in text
    assert "stage &lt;1&gt;" in text
    assert "PALETTE_OF_CLUSTERS" not in text
    assert not re.search(r'(src|href)="(?!data:)', text) and "http" not in text
