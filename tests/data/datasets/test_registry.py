"""The table of datasets: lookups, suggestions, and what importing it costs."""

import subprocess
import sys

import pytest

from cluenet_jax.check import check_config
from cluenet_jax.config import default_config
from cluenet_jax.data import (
    check_task,
    describe_dataset,
    list_datasets,
    load_dataset,
    normalization,
)
from cluenet_jax.errors import DatasetError, UserError


@pytest.mark.parametrize("look_up", [load_dataset, normalization])
def test_unknown_datasets_get_a_suggestion(look_up):
    with pytest.raises(DatasetError, match="Did you mean 'cifar100'"):
        look_up("cifar-100")


def test_datasets_are_listed():
    assert list_datasets()[:2] == ["digits", "cifar10"]
    assert "image_folder" in list_datasets()


def test_normalization():
    for name in list_datasets():
        mean, std = normalization(name)
        assert len(mean) == len(std) == 3 and all(0 < value < 1 for value in (*mean, *std))
    assert normalization("digits") == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert normalization("image_folder") == normalization("imagenet2012")


def test_datasets_are_described_without_reading_them():
    read = load_dataset("digits").info
    described = describe_dataset("digits")
    assert described.class_names == read.class_names
    assert (described.mean, described.std) == (read.mean, read.std)
    sizes = [describe_dataset(name).num_classes for name in ("cifar100", "ip102", "imagenet2012")]
    assert sizes == [100, 102, 1000]
    assert describe_dataset("image_folder", 7).num_classes == 7
    with pytest.raises(DatasetError, match="targets of image_folder"):
        describe_dataset("image_folder")


def test_a_dataset_is_for_some_tasks():
    for name, task in (
        ("digits", "classification"),
        ("digit_scenes", "segmentation"),
        ("digit_scenes", "detection"),
        ("digits", "a task of a plug-in"),
    ):
        check_task(name, task)
    with pytest.raises(
        DatasetError,
        match="name='digits' is for classification, the task is segmentation; for it there are "
        "digit_scenes, camvid, ade20k, mask_folder",
    ):
        check_task("digits", "segmentation")
    with pytest.raises(DatasetError, match="name='camvid' is for segmentation, .* classification"):
        check_task("camvid", "classification")


def test_a_recipe_with_a_dataset_of_another_task_is_refused():
    config = default_config()
    config.data.name = "digit_scenes"
    with pytest.raises(UserError, match="is for segmentation and detection, the task is class"):
        check_config(config, device_count=1)


def test_importing_the_table_imports_no_dataset_library():
    heavy = "tensorflow tensorflow_datasets sklearn grain orbax".split()
    code = f"import sys, cluenet_jax.data; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run
