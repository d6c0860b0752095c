"""Instances: selection, and the truth that evaluations count with."""

import json

import numpy as np
import pytest

from cluenet_jax.data import encode_truth, load_dataset
from cluenet_jax.data.instances import Instances
from cluenet_jax.data.rle import decode_rle
from cluenet_jax.errors import ImageError


def record_of(count, **fields):
    rows = [((1.25, 2, 4.5, 9), i, 7.5, i == 1, None) for i in range(count)]
    instances = Instances.of_rows(rows)
    return {"name": "x.jpg", "image_id": 8, "size": (20, 30), "instances": instances, **fields}


def test_the_truth_is_text():
    truth = encode_truth(record_of(2), masks=False)
    assert truth.dtype == np.uint8 and truth.shape == (4096,)
    content = json.loads(truth.tobytes().rstrip(b"\0"))
    assert content == {
        "image_id": 8,
        "size": [20, 30],
        "boxes": [[1.25, 2, 3.25, 7]] * 2,
        "labels": [0, 1],
        "areas": [7.5, 7.5],
        "crowd": [0, 1],
    }


def test_many_instances_make_a_longer_truth():
    lengths = [len(encode_truth(record_of(count), masks=False)) for count in (0, 40, 500, 3000)]
    assert lengths == [4096, 4096, 4**2 * 1024, 4**4 * 1024]


def test_the_truth_holds_the_masks():
    record = load_dataset("digit_scenes").eval[0]
    content = json.loads(encode_truth(record, masks=True).tobytes().rstrip(b"\0"))
    for text, mask in zip(content["masks"], record["instances"].masks, strict=True):
        rle = {"size": content["size"], "counts": text.encode()}
        np.testing.assert_array_equal(decode_rle(rle), decode_rle(mask))


def test_instances_without_masks_are_named():
    with pytest.raises(ImageError, match=r"x\.jpg: 2 of 2 instances have a box and no mask; learn"):
        encode_truth(record_of(2), masks=True)


def test_selections():
    instances = record_of(4)["instances"]
    assert instances.select(np.array([3, 0])).labels.tolist() == [3, 0]
    chosen = instances.select(~instances.crowd)
    assert chosen.labels.tolist() == [0, 2, 3] and len(chosen.masks) == len(chosen) == 3
    nothing = instances.select(np.zeros(4, bool))
    assert len(nothing) == 0 and nothing.boxes.shape == (0, 4) and nothing.masks == ()
