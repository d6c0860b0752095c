"""The digits: the published scans in memory, the same split and order at any time."""

import hashlib
import pickle
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from cluenet_jax.data import decode_image, load_dataset
from cluenet_jax.data.datasets.digits import read_scans
from cluenet_jax.errors import DatasetError


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def test_the_scans_are_scikit_learns_and_so_is_the_split():
    scans, digits, splits = read_scans()
    original = load_digits()
    np.testing.assert_array_equal(scans, original.images)
    np.testing.assert_array_equal(digits, original.target)
    parts = train_test_split(
        np.arange(1797), test_size=360, stratify=original.target, random_state=0
    )
    for indices, part in zip(splits.values(), parts, strict=True):
        assert sorted(indices) == sorted(part)


def test_the_split_is_stratified(digits):
    assert (len(digits.train), len(digits.eval)) == (1437, 360)
    assert digits.info.class_names == tuple("0123456789")
    labels = [digits.eval[i]["label"] for i in range(360)]
    assert np.bincount(labels).min() >= 34
    assert "tensorflow" not in sys.modules


def test_records_survive_pickling(digits):
    record = pickle.loads(pickle.dumps(digits.train))[5]
    assert record == digits.train[5] and record["name"] == "digits train[5]"
    image = np.asarray(decode_image(record["image"]))
    assert image.shape == (32, 32, 3) and image.max() > 200


def test_images_and_their_order_are_those_of_published_runs(digits):
    """A digest of all pixels and labels, recorded when TFDS prepared them."""
    digest = hashlib.sha256()
    for source in (digits.train, digits.eval):
        for i in range(len(source)):
            record = source[i]
            digest.update(decode_image(record["image"]).tobytes() + bytes([record["label"]]))
    assert digest.hexdigest() == (
        "feed5d5cb1d412b5e78ad7065a9fcb07c402d852323d471035ee727f455dbe3f"
    )


@pytest.mark.parametrize(
    ("split", "begin", "end"),
    [
        ("train", 0, 1437),
        ("train[:10%]", 0, 144),
        ("train[10:20]", 10, 20),
        ("train[-5:]", 1432, 1437),
        ("train[50%:]", 718, 1437),
    ],
)
def test_parts_of_a_split(digits, split, begin, end):
    part = load_dataset("digits", train_split=split).train
    assert len(part) == end - begin
    for i in (0, len(part) - 1):
        whole = digits.train[begin + i]
        assert part[i] == {**whole, "name": f"digits {split}[{i}]"}


def test_parts_are_added():
    both = load_dataset("digits", eval_split="test[:3]+train[:2]").eval
    assert len(both) == 5


@pytest.mark.parametrize("split", ["exam", "exam[:3]", "train[", "train[:200%]", "train[a:b]"])
def test_an_unknown_split_names_the_known_ones(split):
    with pytest.raises(DatasetError, match="digits has no split .*; it has train, test, and parts"):
        load_dataset("digits", eval_split=split)


def test_an_empty_part_is_refused():
    with pytest.raises(DatasetError, match="The split 'test.5:5.' of digits is empty"):
        load_dataset("digits", eval_split="test[5:5]")
