"""Images for the tools: files, folders and evaluation sets."""

import numpy as np
import pytest

from cluenet_jax.checkpoints.load import load
from cluenet_jax.cli.images import eval_records, read_images
from cluenet_jax.data import decode_image
from tests.helpers.images import encode, smooth_image


@pytest.fixture(scope="module")
def trained(checkpoint):
    return load(str(checkpoint))


def test_files_and_folders_are_read(image_root, tmp_path):
    (tmp_path / "large.png").write_bytes(encode(smooth_image(0, 50, 40)))
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty").mkdir()
    paths = [tmp_path / "large.png", image_root / "test", tmp_path / "text.png"]
    paths += [tmp_path / "gone.png", tmp_path / "empty"]
    errors = []
    images = list(read_images(map(str, paths), errors.append))
    assert [name.split("/")[-1] for name, _ in images] == ["large.png", *2 * [
        "000.png", "001.png", "002.png"]]  # fmt: skip
    np.testing.assert_array_equal(images[0][1], smooth_image(0, 50, 40))
    messages = ["text.png: not a readable image", "gone.png: cannot be read (No such file"]
    messages += ["empty: no images in this folder."]
    assert len(errors) == 3
    for message, error in zip(messages, errors, strict=True):
        assert message in error


def test_images_of_the_evaluation_set_are_evenly_spaced(trained):
    everything = list(eval_records(trained))
    truths = [trained.task.target_of_record(record) for _, record in everything]
    assert truths == 3 * ["cat"] + 3 * ["dog"]
    assert [name for name, _ in everything] == [f"image_folder_{i}" for i in range(6)]
    source = trained.dataset().eval
    for index, (_, record) in enumerate(everything):
        image = decode_image(record["image"], record["name"])
        np.testing.assert_array_equal(image, decode_image(source[index]["image"]))
    assert [name[-1] for name, _ in eval_records(trained, 3)] == ["0", "2", "5"]
    assert len(list(eval_records(trained, 100))) == 6
