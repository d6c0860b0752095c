"""A trained model in one file: what comes back is, bit for bit, what went in."""

import dataclasses

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from cluenet_jax.checkpoints.load import load
from cluenet_jax.checkpoints.one_file import read_metadata, write_model_file
from cluenet_jax.cli import export
from cluenet_jax.errors import UserError
from cluenet_jax.weights import to_torch, write_safetensors
from tests.helpers.checkpoints import small_checkpoint
from tests.helpers.models import random_images, run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return small_checkpoint(tmp_path_factory.mktemp("one_file") / "run")


@pytest.fixture
def file(trained, tmp_path):
    path = tmp_path / "model.safetensors"
    write_model_file(path, trained.model, trained.variables, trained.metadata)
    return path


def test_logits_are_those_of_the_checkpoint_bit_for_bit(trained, file):
    loaded = load(str(file))
    assert loaded.model == trained.model and loaded.task == trained.task
    images = random_images(2, 32, 32, 3)
    ours, theirs = (run(m.model, m.variables, images) for m in (loaded, trained))
    np.testing.assert_array_equal(ours, theirs)
    assert ours.dtype == np.float32


def test_all_of_the_metadata_comes_back(trained, file):
    theirs = dataclasses.replace(trained.metadata, checksums={})
    assert load(str(file)).metadata.to_json() == theirs.to_json()


def test_counts_of_batch_norm_stay_integers(tmp_path):
    trained = small_checkpoint(tmp_path / "run", "segmentation", "digit_scenes")
    file = tmp_path / "model.safetensors"
    write_model_file(file, trained.model, trained.variables, trained.metadata)
    loaded = load(str(file)).variables
    kinds = {leaf.dtype for leaf in jax.tree.leaves(loaded)}
    assert kinds == {np.dtype(np.float32), np.dtype(np.int32)}
    jax.tree.map(np.testing.assert_array_equal, loaded, trained.variables)


def test_pytorchs_side_reads_the_arrays(trained, file):
    expected = to_torch(trained.variables, trained.model)
    arrays = load_file(file)
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name], name)


def test_a_flipped_bit_is_noticed(file):
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    with pytest.raises(UserError, match="corrupt: the digest"):
        load(str(file))


def test_a_file_cut_short_is_an_error(file):
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load(str(file))


def test_weights_alone_are_sent_to_convert(trained, tmp_path):
    path = str(tmp_path / "weights.safetensors")
    write_safetensors(to_torch(trained.variables, trained.model), path)
    with pytest.raises(UserError, match=f"convert {path} DIR --backbone=NAME"):
        load(path)


def test_a_description_of_another_version_is_an_error(tmp_path):
    path = str(tmp_path / "weights.safetensors")
    write_safetensors({"a": np.zeros(1, np.float32)}, path, {"cluenet_jax": '{"step": 1}'})
    with pytest.raises(UserError, match="its description cannot be read"):
        read_metadata(path)


def test_a_bucket_takes_no_single_file(trained):
    address = "gs://bucket/model.safetensors"
    for use in (
        lambda: load(address),
        lambda: write_model_file(address, trained.model, trained.variables, trained.metadata),
        lambda: export.main(["cluenet_nano.cifar100", address]),
    ):
        with pytest.raises(UserError, match="is in a bucket"):
            use()


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        load(str(tmp_path / "gone.safetensors"))
