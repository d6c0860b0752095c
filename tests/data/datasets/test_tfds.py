"""TFDS: errors that name the record, the archive or the install that is missing."""

import sys

import pytest

from cluenet_jax.data import load_dataset
from cluenet_jax.data.datasets.tfds import TfdsSource
from cluenet_jax.errors import DatasetError


@pytest.mark.skipif("tensorflow" in sys.modules, reason="TensorFlow is installed here")
@pytest.mark.parametrize("name", ["food101", "caltech_birds2011"])
def test_what_needs_tensorflow_names_the_one_install(name, tmp_path):
    with pytest.raises(DatasetError, match=f"{name} is not in .*pip install tensorflow"):
        load_dataset(name, str(tmp_path))


def test_imagenet_says_where_its_archives_go(tmp_path):
    with pytest.raises(DatasetError, match="downloads/manual/ILSVRC2012_img_train.tar"):
        load_dataset("imagenet2012", str(tmp_path))


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_out_of_range_is_named(label):
    source = TfdsSource([{"image": b"", "label": label}], "birds train", num_classes=3)
    with pytest.raises(DatasetError, match=rf"birds train\[0\]: its label is {label}, the 3 .* 2"):
        source[0]


def test_a_record_that_cannot_be_read_is_named():
    source = TfdsSource([], "birds train", num_classes=3)
    with pytest.raises(DatasetError, match=r"birds train\[0\]: cannot be read"):
        source[0]
