"""Run-length codes: pycocotools' text, read again by a decoder of our own."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from cluenet_jax.data.rle import (
    area_of,
    decode_rle,
    encode_bitmap,
    read_segmentation,
    run_lengths,
)
from cluenet_jax.errors import UserError


def blobs(seed, height=37, width=53):
    rng = np.random.default_rng(seed)
    coarse = rng.random((height // 8 + 1, width // 8 + 1)) < 0.4
    return coarse.repeat(8, 0).repeat(8, 1)[:height, :width]


@pytest.mark.parametrize("seed", range(10))
def test_bitmaps_survive(seed):
    bitmap = blobs(seed)
    rle = encode_bitmap(bitmap)
    np.testing.assert_array_equal(decode_rle(rle), bitmap)
    assert area_of(rle) == bitmap.sum() and rle["size"] == [37, 53]
    for counts in (rle["counts"], rle["counts"].decode()):
        read = read_segmentation({"size": [37, 53], "counts": counts}, (37, 53))
        np.testing.assert_array_equal(decode_rle(read), bitmap)


@pytest.mark.parametrize("seed", range(10))
def test_run_lengths_are_those_of_the_columns(seed):
    bitmap = blobs(seed) if seed else np.zeros((37, 53), bool)
    flat = bitmap.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    runs = [0, *runs] if flat[0] else runs
    assert run_lengths(encode_bitmap(bitmap)["counts"]) == runs
    plain = read_segmentation({"size": [37, 53], "counts": runs}, (37, 53))
    np.testing.assert_array_equal(decode_rle(plain), bitmap)


def test_polygons_are_united_as_pycocotools_does():
    polygons = [
        [1.5, 2, 20.2, 3, 10, 30.7],
        [15, 1, 50, 1, 50.5, 20, 15, 20],
        [-5, 30, 9, 60, 0, 9],
    ]
    expected = sum(
        coco_mask.decode(coco_mask.frPyObjects([polygon], 37, 53))[..., 0] for polygon in polygons
    )
    mask = decode_rle(read_segmentation(polygons, (37, 53)))
    np.testing.assert_array_equal(mask, np.minimum(expected, 1))
    assert expected.max() == 2 and 0 < mask.mean() < 1


def test_there_may_be_no_segmentation():
    assert read_segmentation(None, (3, 4)) is read_segmentation([], (3, 4)) is None


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ("1\u00e9", "not the text of a compressed one"),
        ("oooooooooo1", "not the text of a compressed one"),
        ("1o", "ends in the middle of a number: '1o'"),
        (None, "counts of an RLE is None; it is a list of runs, or text"),
    ],
)
def test_bad_codes_are_refused(counts, message):
    with pytest.raises(UserError, match=message):
        run_lengths(counts)
