"""The README's figure: rows of a photograph and its clusters, every pixel in one."""

import numpy as np
import pytest
from PIL import Image

from cluenet_jax.checkpoints.load import load
from cluenet_jax.pretrained import DEFAULT

pytest.importorskip("skimage", reason="needs cluenet-jax[superpixels]")


def test_a_row_is_an_image_and_its_four_stages(monkeypatch):
    from benchmarks import photographs

    # Small, to compile quickly.
    monkeypatch.setattr(photographs, "SIDE", 32)
    first = next(photographs.photographs())
    assert first.size == (32, 32)
    pixels = photographs.row(load(DEFAULT).with_image_size(32), first)
    assert pixels.shape == (32, 5 * 32 + 4 * photographs.GAP, 3) and pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels[:, :32], np.asarray(first))
    starts = [32 * stage + photographs.GAP * stage for stage in range(1, 5)]
    tiles = [pixels[:, start : start + 32] for start in starts]
    assert all((tile != np.asarray(first)).any() for tile in tiles)


def test_the_figure_shows_all_photographs():
    from benchmarks import photographs

    with Image.open("docs/photographs.jpg") as figure:
        height = len(photographs.CROPS) * (photographs.SIDE + photographs.GAP) - photographs.GAP
        assert figure.size == (5 * photographs.SIDE + 4 * photographs.GAP, height)
