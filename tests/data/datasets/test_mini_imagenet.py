"""Mini-ImageNet: the published split, and reading from a folder."""

import csv
import gzip
import hashlib
import json
import pathlib

import numpy as np
import pytest

from cluenet_jax.data import decode_image, load_dataset
from cluenet_jax.data.datasets.mini_imagenet import split_by_image
from cluenet_jax.errors import DatasetError
from tests.helpers.images import encode, smooth_image

LISTS = pathlib.Path(__file__).parents[1] / "mini_imagenet_lists.json.gz"


def test_the_split_is_exactly_the_published_one():
    """The published split, as a digest, from the three few-shot lists, as names without zeros."""
    with gzip.open(LISTS) as file:
        lists = json.load(file)
    rows = [(f"{label}{n:08}.jpg", label) for label, numbers in lists["rows"] for n in numbers]
    split = split_by_image(rows)
    assert (len(split["train"]), len(split["test"])) == (48_000, 12_000)
    lines = "".join(f"{name},{label}\n" for name, label in split["test"])
    assert hashlib.sha256(lines.encode()).hexdigest() == lists["sha256_of_test"]
    assert not set(split["train"]) & set(split["test"])


def test_mini_imagenet_from_a_folder(tmp_path):
    with pytest.raises(
        DatasetError, match="mini_imagenet/train.csv.* with the three few-shot lists"
    ):
        load_dataset("mini_imagenet", str(tmp_path))
    folder = tmp_path / "downloads" / "manual" / "mini_imagenet"
    (folder / "images").mkdir(parents=True)
    for part, name in enumerate(("train.csv", "val.csv", "test.csv")):
        with (folder / name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["filename", "label"])
            for label in range(part, 100, 3):
                for i in range(5):
                    writer.writerow([f"{label:03}_{i}.jpg", f"n{label:08}"])
                    (folder / "images" / f"{label:03}_{i}.jpg").write_bytes(
                        encode(smooth_image(label), "JPEG")
                    )
    dataset = load_dataset("mini_imagenet", str(tmp_path))
    assert (len(dataset.train), len(dataset.eval)) == (400, 100)
    record = dataset.eval[7]
    image = np.asarray(decode_image(record["image"]), np.int32)
    expected = np.asarray(decode_image(encode(smooth_image(record["label"]), "JPEG")), np.int32)
    np.testing.assert_array_equal(image, expected)
