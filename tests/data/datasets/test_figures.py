"""Figures: the same every time, joints on the figure, masks and boxes around it."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from cluenet_jax.data import load_dataset
from cluenet_jax.data.datasets.figures import SIZE, draw_figures
from cluenet_jax.data.rle import decode_rle
from cluenet_jax.data.skeletons import FIGURE
from cluenet_jax.errors import DatasetError


@pytest.fixture(scope="module")
def dataset():
    return load_dataset("figures")


def test_scenes_are_the_same_every_time(dataset):
    again = pickle.loads(pickle.dumps(load_dataset("figures").eval))
    for index in (0, 7):
        ours, theirs = dataset.eval[index], again[index]
        assert ours["image"] == theirs["image"]
        np.testing.assert_array_equal(ours["poses"].points, theirs["poses"].points)
    assert not {*dataset.train.image_ids} & {*dataset.eval.image_ids}
    assert (len(dataset.train), len(dataset.eval)) == (1500, 150)


def test_joints_are_on_their_figure_and_boxes_around_it(dataset):
    for index in range(30):
        record = dataset.eval[index]
        poses, instances = record["poses"], record["instances"]
        with Image.open(io.BytesIO(record["image"])) as image:
            assert image.size == SIZE[::-1] and image.mode == "RGB"
        np.testing.assert_array_equal(poses.boxes, instances.boxes)
        assert 1 <= len(poses) <= 2
        last = len(poses) - 1
        for number, (box, points, mask) in enumerate(
            zip(poses.boxes, poses.points, instances.masks, strict=True)
        ):
            bitmap = decode_rle(mask)
            x, y = points[:, 0].astype(int), points[:, 1].astype(int)
            # A figure in front may hide some.
            assert number < last or bitmap[y, x].all()
            ys, xs = np.flatnonzero(bitmap.any(1)), np.flatnonzero(bitmap.any(0))
            np.testing.assert_array_equal(box, [xs[0], ys[0], xs[-1] + 1, ys[-1] + 1])


def test_limbs_have_their_lengths():
    (figure, *_), _ = draw_figures(3)
    at = dict(zip(FIGURE.names, figure.joints / figure.height, strict=True))
    for first, second, length in (
        ("left_shoulder", "left_elbow", 0.17),
        ("right_elbow", "right_wrist", 0.16),
        ("left_hip", "left_knee", 0.24),
        ("right_knee", "right_ankle", 0.23),
    ):
        assert np.linalg.norm(at[first] - at[second]) == pytest.approx(length)


def test_the_same_figures_to_detect():
    boxes = load_dataset("figure_boxes", eval_split="test[:3]")
    assert boxes.info.class_names == ("figure",) and len(boxes.eval) == 3
    assert set(boxes.eval[0]["instances"].labels) == {0}


def test_unknown_splits_are_refused():
    with pytest.raises(DatasetError, match="figures"):
        load_dataset("figures", train_split="exam")
