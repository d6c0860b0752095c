"""Scenes of digits: of their number alone, disjoint scans, masks that agree with boxes."""

import pickle

import numpy as np
import pytest

from cluenet_jax.data import decode_pair, load_dataset
from cluenet_jax.data.rle import decode_rle
from cluenet_jax.errors import DatasetError


@pytest.fixture(scope="module")
def dataset():
    return load_dataset("digit_scenes")


def assert_records_equal(a, b):
    assert a.keys() == b.keys()
    assert {key: a[key] for key in a if key != "instances"} == {
        key: b[key] for key in b if key != "instances"
    }
    for name in ("boxes", "labels", "areas", "crowd"):
        arrays = (getattr(record["instances"], name) for record in (a, b))
        np.testing.assert_array_equal(*arrays, name)
    assert a["instances"].masks == b["instances"].masks


def test_sizes_and_names(dataset):
    assert (len(dataset.train), len(dataset.eval)) == (2000, 200)
    assert dataset.info.class_names == ("background", *"0123456789")
    assert dataset.eval[3]["name"] == "digit_scenes[2003]"
    assert len(load_dataset("digit_scenes", train_split="train[:10%]").train) == 200
    assert dataset.eval.sizes == [(64, 64)] * 200
    with pytest.raises(DatasetError, match="digit_scenes has no split 'exam'; it has train, test"):
        load_dataset("digit_scenes", eval_split="exam")


def test_a_scene_depends_on_its_number_alone(dataset):
    copy = pickle.loads(pickle.dumps(dataset.train))
    part = load_dataset("digit_scenes", train_split="train[7:9]+test[:1]").train
    for index in (8, 7):
        assert_records_equal(copy[index], dataset.train[index])
        assert_records_equal(part[index - 7], dataset.train[index])
    assert_records_equal(part[2], dataset.eval[0])
    assert dataset.train[7]["image"] != dataset.train[8]["image"]


def test_training_and_eval_scans_are_disjoint(dataset):
    train, test = (set(dataset.train.scans_of[split]) for split in ("train", "test"))
    assert len(train) == 1437 and len(test) == 360 and not train & test


@pytest.mark.parametrize("index", range(30))
def test_masks_boxes_and_instances_agree(dataset, index):
    record = dataset.train[index]
    image, mask = decode_pair(record)
    assert image.shape == (64, 64, 3) and image.dtype == mask.dtype == np.uint8
    instances = np.stack([*map(decode_rle, record["instances"].masks)]).astype(bool)
    labels, boxes = record["instances"].labels, record["instances"].boxes
    np.testing.assert_array_equal(record["instances"].areas, instances.sum((1, 2)))
    assert record["image_id"] == index and record["size"] == (64, 64)
    assert not record["instances"].crowd.any()
    assert 3 <= len(labels) == len(boxes) <= 4 and set(labels) <= set(range(1, 11))
    # Each pixel is of one digit at most, which the mask names.
    np.testing.assert_array_equal((instances * labels[:, None, None]).sum(0), mask)
    assert instances.sum(0).max() == 1
    for (x1, y1, x2, y2), pixels in zip(boxes.astype(int), instances, strict=True):
        inside = np.zeros_like(pixels)
        inside[y1:y2, x1:x2] = True
        assert pixels.sum() >= 50 and not (pixels & ~inside).any()
        assert all(
            side.any() for side in (pixels[y1], pixels[y2 - 1], pixels[:, x1], pixels[:, x2 - 1])
        )


def test_digits_stand_out(dataset):
    for index in range(10):
        scene = dataset.eval.scene(index)
        for pixels in scene.instances:
            ground = scene.image[scene.mask == 0].mean()
            assert scene.image[pixels].mean() > ground + 40


def test_every_digit_has_a_cell_of_its_own(dataset):
    places = set()
    for index in range(40):
        boxes = dataset.train.scene(index).boxes
        cells = [tuple(cell) for cell in (boxes[:, :2] // 32).astype(int)]
        assert len(set(cells)) == len(boxes)
        # The last pixel's cell is the first one's.
        np.testing.assert_array_equal((boxes[:, 2:] - 1) // 32, cells)
        places |= {tuple(corner) for corner in boxes[:, :2] % 32}
    assert len(places) > 30


def test_all_classes_are_about_equally_frequent(dataset):
    labels = np.concatenate([dataset.train.scene(i).labels for i in range(200)])
    assert np.bincount(labels, minlength=11)[1:].min() > 0.5 * len(labels) / 10
