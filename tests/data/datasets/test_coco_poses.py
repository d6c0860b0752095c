"""COCO files of keypoints: persons of 17 and 133, own skeletons, errors that name the entry."""

import json
import logging
import math
import pickle

import numpy as np
import pytest

from cluenet_jax.data import load_dataset
from cluenet_jax.data.poses import (
    detected_crops,
    encode_poses,
    eval_crops,
    training_crops,
    true_crops,
)
from cluenet_jax.data.skeletons import COCO, WHOLE_BODY
from cluenet_jax.errors import DatasetError
from tests.helpers.pose import NAMES, SIZE, pose_annotation, poses_content, poses_folder

EVERY = np.ones(4, bool)


def load(root, **splits):
    return load_dataset("keypoints_json", str(root), **splits)


def test_records_hold_the_poses(tmp_path):
    dataset = load(poses_folder(tmp_path / "root"))
    skeleton = dataset.info.skeleton
    assert dataset.info.class_names == skeleton.names == tuple(NAMES)
    assert skeleton.pairs == ((1, 2),) and skeleton.limbs == ((0, 1), (0, 2), (0, 3))
    assert skeleton.kind == "cat" and len(set(skeleton.sigmas)) == 1
    record = dataset.eval[0]
    assert record.keys() == {"image", "name", "image_id", "size", "poses"}
    poses = record["poses"]
    np.testing.assert_array_equal(poses.boxes, [(8, 6, 32, 36), (30, 20, 90, 80)])
    np.testing.assert_array_equal(poses.points[0, 1], [20, 30, 1])
    assert poses.points.shape == (2, 4, 3) and record["size"] == SIZE
    assert [len(poses) for poses in dataset.eval.poses] == [2, 2, 0]
    assert dataset.eval.names == ["5.png", "2.png", "9.png"]
    assert pickle.loads(pickle.dumps(dataset.train)).image_ids == (5, 2, 9)
    rows = json.loads(encode_poses(poses).tobytes().rstrip(b"\0"))
    assert rows[0]["keypoints"] == [10, 10, 2, 20, 30, 1, 30, 30, 2, 0, 0, 0]
    assert rows[1]["bbox"] == [30, 20, 60, 60] and rows[1]["iscrowd"] == 0


def test_a_table_adds_to_a_skeleton(tmp_path):
    table = dict(
        sigmas=[0.1, 0.2, 0.2, 0.3], pairs=[[1, 2]], upper=[0, 1, 2], parts=[["arms", 0, 3]]
    )
    skeleton = load(poses_folder(tmp_path / "root", skeleton=table)).info.skeleton
    assert skeleton.sigmas == (0.1, 0.2, 0.2, 0.3) and skeleton.upper == (0, 1, 2)
    assert skeleton.parts == (("arms", 0, 3),) and skeleton.limbs == ((0, 1), (0, 2), (0, 3))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (dict(sigmas=[0.1]), "sigmas are 4 numbers above 0"),
        (dict(pairs=[[1, 4]]), r"pairs has \(1, 4\); it is two numbers, 0 to 3"),
        (dict(parts=[["arms", 0, 9]]), "parts are .* within 0 to 4"),
        (dict(sigma=[0.1] * 4), "not the table of a skeleton .*'sigma'"),
        (dict(names=["a", "b", "c", "d"]), "its names are not those of the annotations"),
    ],
)
def test_wrong_tables_say_what_would_be_right(tmp_path, table, message):
    with pytest.raises(DatasetError, match=message):
        load(poses_folder(tmp_path / "root", skeleton=table))


def test_crowds_are_evaluated_and_not_learned(tmp_path, caplog):
    dataset = load(poses_folder(tmp_path / "root"))
    with caplog.at_level(logging.INFO):
        train = training_crops(dataset.train, EVERY)
    assert len(train) == 3 and "Left out of training: 1 of 4 poses" in caplog.text
    record = train[1]
    # Within the image, up to its last pixel's center.
    assert record["box"] == (30, 20, 63, 47) and record["truth"] is None
    np.testing.assert_array_equal(record["points"][0], [10, 10, 2])
    evaluation = eval_crops(dataset.eval, true_crops(dataset.eval, EVERY))
    assert [crop.image for crop in evaluation.crops] == [0, 0, 1, 2]
    records = [evaluation[i] for i in range(4)]
    assert [r["truth"] is not None for r in records] == [True, False, True, True]
    assert records[3]["box"] is None and len(records[2]["truth"]) == 2


@pytest.mark.parametrize(
    "fields",
    [
        dict(area=0),
        dict(bbox=[64, 0, 10, 10]),
        dict(bbox=[5, 5, 0, 9]),
        dict(keypoints=[5, 5, 0] * 4),
    ],
)
def test_poses_of_nothing_are_not_learned(tmp_path, fields):
    content = poses_content()
    content["annotations"] = [pose_annotation(1), pose_annotation(2, **fields)]
    dataset = load(poses_folder(tmp_path / "root", train=content))
    assert len(training_crops(dataset.train, EVERY)) == 1
    content["annotations"].pop(0)
    dataset = load(poses_folder(tmp_path / "other", train=content))
    with pytest.raises(DatasetError, match="no pose to learn from; unusable are 1 of 1 poses"):
        training_crops(dataset.train, EVERY)


def detections(tmp_path, rows):
    path = tmp_path / "boxes.json"
    path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return str(path)


def test_boxes_of_a_detector_in_both_forms(tmp_path):
    source = load(poses_folder(tmp_path / "root")).eval
    box = dict(bbox=[1, 2, 10, 20], score=0.5)
    results = [
        dict(image_id=2, category_id=1, **box),
        dict(image_id=2, category_id=7, **box),
        dict(image_id=9, category_id=1, bbox=[0, 0, 5, 5], score=0.25),
    ]
    rows = detected_crops(source, detections(tmp_path, results), "cat")
    assert [len(row) for row in rows] == [0, 1, 1] and rows[1][0].box == (1, 2, 11, 22)
    crops = eval_crops(source, rows)
    assert [(crop.image, crop.score) for crop in crops.crops] == [(0, 1), (1, 0.5), (2, 0.25)]
    assert {crop.pose for crop in crops.crops} == {-1}
    ours = [
        dict(file="some/where/2.png", detections=[dict(category="cat", category_id=3, **box)]),
        dict(file="other.png", detections=[dict(category="cat", **box)]),
        dict(file="9.png", detections=[dict(category="dog", **box)]),
    ]
    rows = detected_crops(source, detections(tmp_path, ours), "cat")
    assert [len(row) for row in rows] == [0, 1, 0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("{", "eval.boxes=.*: not a readable JSON file"),
        ({"boxes": []}, "it is a list of detections"),
        ([dict(image_id=77, category_id=1, bbox=[0] * 4, score=1)], "image_id 77 is none of this"),
        ([dict(image_id=2, category_id=1, bbox=[0, 1], score=1)], r"entry 0: bbox \[0, 1\]"),
        ([dict(image_id=2, category_id=1, bbox=[0] * 4)], "score None; they are x, y, width"),
        ([dict(image_id=2, category_id=1, bbox=[0, 0, math.nan, 1], score=1)], "bbox .*nan"),
        ([dict(image_id=2, category_id=5, bbox=[0] * 4, score=1)], "no box of a cat in an image"),
    ],
)
def test_wrong_boxes_say_what_would_be_right(tmp_path, rows, message):
    source = load(poses_folder(tmp_path / "root")).eval
    with pytest.raises(DatasetError, match=message):
        detected_crops(source, detections(tmp_path, rows), "cat")
    with pytest.raises(DatasetError, match="not a readable JSON file"):
        detected_crops(source, str(tmp_path / "nowhere.json"), "cat")


def changed(kind, index, **fields):
    return lambda content: content[kind][index].update(fields)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content.pop("images"), "has no list images"),
        (changed("annotations", 1, id=11), "two of annotations have the id 11"),
        (changed("annotations", 1, image_id=77), "image_id 77 is the id of no image"),
        (changed("annotations", 1, bbox=[1, 2, 3]), r"bbox is \[1, 2, 3\]; it is 4 finite"),
        (
            changed("annotations", 1, keypoints=[1, 2]),
            "2 numbers in keypoints; 4 .* have 12",
        ),
        (changed("annotations", 1, keypoints=None), "keypoints is None; it is a list of finite"),
        (changed("annotations", 1, keypoints=[math.nan] * 12), "keypoints is .* list of finite"),
        (changed("annotations", 1, area="big"), "area is 'big'; it is a finite number"),
        (changed("images", 1, height=0), "height 0 and width 64"),
        (changed("images", 1, file_name="3.png"), "3.png is missing; images belong into"),
        (
            changed("categories", 0, keypoints=["a", "a"]),
            "keypoints are .*; they are a list",
        ),
        (changed("categories", 0, keypoints=[]), "its category names no keypoints"),
        (
            changed("categories", 0, skeleton=[[1, 5]]),
            "pairs of keypoints' numbers, 1 to 4",
        ),
        (
            lambda content: content["categories"].append(dict(id=5, name="dog", keypoints=["x"])),
            "2 of its categories have keypoints; poses are of one kind",
        ),
        (changed("categories", 0, keypoints=["a", "b", "c", "d"]), "differ in their keypoints"),
    ],
)
def test_wrong_files_say_what_would_be_right(tmp_path, spoil, message):
    content = poses_content()
    spoil(content)
    with pytest.raises(DatasetError, match=message):
        load(poses_folder(tmp_path / "root", val=content))


def published(tmp_path, name, file, **parts):
    """A folder laid out as the published sets, of one image and person."""
    for split in ("train", "val"):
        (tmp_path / f"{split}2017").mkdir()
        content = poses_content()
        content["categories"] = [dict(id=1, name="person")]
        content["images"] = content["images"][:1]
        content["annotations"] = [pose_annotation(1, category_id=1, **parts)]
        path = tmp_path / "annotations" / file.format(split)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
        (tmp_path / f"{split}2017" / "5.png").write_bytes(b"")
    return load_dataset(name, str(tmp_path))


def test_published_persons_of_17_keypoints(tmp_path):
    file = "person_keypoints_{}2017.json"
    dataset = published(tmp_path, "coco_keypoints", file, keypoints=[1, 2, 2] * 17)
    assert dataset.info.skeleton == COCO and dataset.info.num_classes == 17
    assert dataset.eval.poses[0].points.shape == (1, 17, 3)


def test_published_whole_bodies(tmp_path):
    parts = dict(
        keypoints=[1, 1, 1] * 17,
        foot_kpts=[2, 2, 2] * 6,
        face_kpts=[3, 3, 0.5] * 68,
        lefthand_kpts=[4, 4, 1] * 21,
        righthand_kpts=[5, 5, 1] * 21,
    )
    file = "coco_wholebody_{}_v1.0.json"
    dataset = published(tmp_path, "coco_wholebody", file, **parts)
    assert dataset.info.skeleton == WHOLE_BODY
    points = dataset.eval.poses[0].points[0]
    for name, first, last in WHOLE_BODY.parts:
        number = ["body", "foot", "face", "left_hand", "right_hand"].index(name) + 1
        np.testing.assert_array_equal(points[first:last, 0], number)
    # Fractions count as labeled.
    assert points[30, 2] == 0.5
