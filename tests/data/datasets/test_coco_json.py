"""COCO JSON files: labels, masks, what is left out, and errors that name file and entry."""

import json
import logging
import math
import pickle

import numpy as np
import pytest

from cluenet_jax.data import decode_instances, load_dataset
from cluenet_jax.data.rle import decode_rle
from cluenet_jax.errors import DatasetError, ImageError
from tests.helpers.coco import (
    SIZE,
    coco_content,
    coco_folder,
    crowd_annotation,
    polygon_annotation,
)
from tests.helpers.images import encode, smooth_image


@pytest.fixture
def root(tmp_path):
    return coco_folder(tmp_path / "root")


def load(root, **splits):
    return load_dataset("coco_json", str(root), **splits)


def test_records_hold_the_instances(root):
    dataset = load(root)
    # Ids in ascending order.
    assert dataset.info.class_names == ("dog", "cat")
    assert (len(dataset.train), len(dataset.eval)) == (2, 3)
    record = dataset.eval[1]
    assert record.keys() == {"image", "name", "image_id", "size", "instances"}
    assert record["name"].endswith("val/2.png") and record["image_id"] == 2
    image, instances = decode_instances(record)
    assert image.shape == (*SIZE, 3) and record["size"] == SIZE
    np.testing.assert_array_equal(instances.boxes, [(4, 6, 24, 16), (0, 0, 2, 48), (4, 6, 24, 16)])
    np.testing.assert_array_equal(instances.labels, [1, 0, 0])
    np.testing.assert_array_equal(instances.areas, [200, 96, 200])
    np.testing.assert_array_equal(instances.crowd, [False, True, False])
    types = [array.dtype for array in (instances.boxes, instances.labels, instances.areas)]
    assert types == [np.float64, np.int32, np.float64] and instances.crowd.dtype == bool
    rectangle, columns, _ = map(decode_rle, instances.masks)
    expected = np.zeros(SIZE, np.uint8)
    expected[6:16, 4:24] = 1
    np.testing.assert_array_equal(rectangle, expected)
    assert columns[:, :2].all() and not columns[:, 2:].any()
    assert len(dataset.eval[2]["instances"]) == 0
    assert pickle.loads(pickle.dumps(dataset.train))[0]["image_id"] == 5
    assert dataset.train.sizes == [SIZE] * 2


def test_crowds_and_images_of_nothing_are_only_evaluated(root, caplog):
    with caplog.at_level(logging.INFO):
        dataset = load(root)
    assert [dataset.train[i]["image_id"] for i in range(2)] == [5, 2]
    assert dataset.train[1]["instances"].labels.tolist() == [1, 0]
    assert "left out of training: 1 of 4 instances" in caplog.text
    assert "and 1 of 3 images" in caplog.text


@pytest.mark.parametrize(
    "fields",
    [
        {"area": 0},
        {"bbox": [4, 6, 0.5, 10]},
        {"bbox": [4, 6, 20, -3]},
        {"bbox": [64, 6, 20, 10]},
        {"bbox": [-20, 6, 20, 10]},
        {"bbox": [4, 48, 20, 10]},
    ],
)
def test_boxes_outside_and_without_area_are_not_learned(tmp_path, fields):
    content = coco_content()
    content["annotations"].append(polygon_annotation(99, image=9, **fields))
    dataset = load(coco_folder(tmp_path / "root", train=content, val=content))
    assert [dataset.train[i]["image_id"] for i in range(len(dataset.train))] == [5, 2]
    # An evaluation counts what the file says, as pycocotools does.
    assert len(dataset.eval[2]["instances"]) == 1


def test_a_box_partly_outside_is_learned(tmp_path):
    content = coco_content()
    content["annotations"].append(polygon_annotation(99, image=9, bbox=[-19, 40, 20, 100]))
    assert len(load(coco_folder(tmp_path / "root", train=content)).train) == 3


def test_images_with_a_short_side_are_not_learned(tmp_path):
    content = coco_content()
    content["images"][0]["height"] = 31
    dataset = load(coco_folder(tmp_path / "root", train=content, val=content))
    assert [len(dataset.train), len(dataset.eval)] == [1, 3]


def test_annotations_of_unknown_categories_are_left_out(tmp_path, caplog):
    content = coco_content()
    content["annotations"] += [polygon_annotation(i, image=9, category=8) for i in (98, 99)]
    dataset = load(coco_folder(tmp_path / "root", val=content))
    assert len(dataset.eval[2]["instances"]) == 0
    assert "2 annotations are of a category that the file does not name" in caplog.text
    assert "the first has the id 98; they are left out" in caplog.text


def test_what_a_file_need_not_say(tmp_path):
    content = coco_content()
    for annotation in content["annotations"]:
        del annotation["iscrowd"], annotation["area"]
    del content["annotations"][1]["segmentation"]
    content["annotations"][3]["segmentation"] = []
    content["annotations"][3]["iscrowd"] = True
    instances = [
        record["instances"] for record in load(coco_folder(tmp_path / "root", val=content)).eval
    ]
    assert instances[0].masks == (None,) and instances[0].areas == [195]
    assert instances[1].areas.tolist() == [200, 96, 200]
    assert instances[1].crowd.tolist() == [False, False, True] and instances[1].masks[2] is None


def test_500_instances_in_an_image(tmp_path):
    content = coco_content()
    content["annotations"] = [polygon_annotation(i, image=2) for i in range(500)]
    assert len(load(coco_folder(tmp_path / "root", train=content)).train[0]["instances"]) == 500


def test_splits_are_names_or_files_and_folders(root):
    (root / "images").mkdir()
    (root / "val").rename(root / "images" / "exam")
    (root / "annotations" / "instances_val.json").rename(root / "exam.json")
    assert len(load(root, eval_split="exam").eval) == 3
    assert len(load(root, eval_split="exam.json:images/exam").eval) == 3
    with pytest.raises(DatasetError, match="'val': there is no file .*instances_val.json or "):
        load(root)
    with pytest.raises(DatasetError, match="no folder .*images/oral; a split is a name, or FILE"):
        load(root, eval_split="exam.json:images/oral")
    with pytest.raises(DatasetError, match="'../x.json:train' leads out of"):
        load(root, eval_split="../x.json:train")


def test_missing_roots_are_refused(tmp_path):
    with pytest.raises(
        DatasetError, match=r"coco_json needs --config\.data\.dir=ROOT, with the images"
    ):
        load("")
    with pytest.raises(DatasetError, match="there is no such folder"):
        load(tmp_path / "nowhere")


def changed(kind, index, **fields):
    def change(content):
        content[kind][index].update(fields)

    return change


def without(kind, index, key):
    def change(content):
        del content[kind][index][key]

    return change


def polygon(*coordinates):
    return changed("annotations", 0, segmentation=[[*coordinates]])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content.pop("images"), "has no list images; .* lists images, annotations"),
        (lambda content: content.update(annotations={}), "has no list annotations"),
        (lambda content: content.update(images=[]), "image_id 2 is the id of no image"),
        (changed("images", 1, id=5), "two of images have the id 5; ids are unique"),
        (changed("images", 1, id="5"), r"images\[1\] is .*a whole number as its id"),
        (without("images", 1, "file_name"), r"images\[1\] \(id 2\): file_name is None; it is the"),
        (changed("images", 1, height=0), r"height 0 and width 64; they are whole numbers above 0"),
        (changed("images", 1, file_name="../2.png"), "image 2: '../2.png' is not inside of"),
        (changed("images", 1, file_name="3.png"), "image 2: .*val/3.png is missing; images belong"),
        (changed("annotations", 3, id=11), "two of annotations have the id 11; ids are unique"),
        (
            changed("annotations", 3, image_id=77),
            r"annotations\[3\] \(id 14\): image_id 77 is the id of no image",
        ),
        (changed("annotations", 3, bbox=[1, 2, 3]), r"bbox is \[1, 2, 3\]; it is 4 finite numbers"),
        (changed("annotations", 3, bbox=[1, 2, math.nan, 4]), r"bbox is \[1, 2, nan, 4\]; it is 4"),
        (changed("annotations", 3, bbox=[1, 2, 10**400, 4]), "it is 4 finite numbers: x, y, width"),
        (changed("annotations", 3, bbox="1234"), "bbox is '1234'; it is 4 finite numbers"),
        (without("annotations", 3, "bbox"), "bbox is None; it is 4 finite numbers: x, y, width"),
        (changed("annotations", 3, area="big"), "area is 'big'; it is a finite number"),
        (changed("annotations", 3, iscrowd=math.inf), "iscrowd is inf; it is a finite number"),
        (polygon(1, 2, 3, 4), "polygon 0 has 2 points; at least 3 enclose pixels"),
        (polygon(1, 2, 3, 4, 5, 6, 7), "polygon 0 has 7 coordinates, an odd number; each point"),
        (polygon(1, 2, 3, 4, 5, math.nan), "polygon 0 is .*; it is a list of finite numbers"),
        (polygon(1, 2, 3, 4, 5, 1e12), r"a coordinate of 1e\+12, far outside of the image"),
        (
            changed("annotations", 0, segmentation=[1, 2, 3, 4, 5, 6]),
            "polygon 0 is 1; it is a",
        ),
        (changed("annotations", 0, segmentation="lost"), "segmentation is 'lost'; it is a list of"),
        (
            changed("annotations", 2, segmentation={"size": [64, 48], "counts": [3072]}),
            r"an RLE of size \[64, 48\]; the image's is \[48, 64\] \(height, width\)",
        ),
        (
            changed("annotations", 2, segmentation={"size": [48, 64], "counts": [3071]}),
            r"sum of height x width = 3072 pixels; they are \[3071\]",
        ),
        (
            changed("annotations", 2, segmentation={"size": [48, 64], "counts": [3073, -1]}),
            "whole numbers from 0",
        ),
        (
            changed("annotations", 2, segmentation={"size": [48, 64], "counts": "12"}),
            r"sum of height x width = 3072 pixels; they are \[1, 2\]",
        ),
        (changed("categories", 1, name="cat"), "categories named twice: cat"),
        (changed("categories", 1, id=7), "two of categories have the id 7; ids are unique"),
        (without("categories", 1, "name"), r"categories\[1\] \(id 3\): name is None; it is text"),
        (lambda content: content.update(categories=[]), "has no categories; each has an id"),
        (lambda content: content["categories"].append({"id": 4, "name": "owl"}), r"\(4, 'owl'\)"),
    ],
)
def test_bad_files_are_refused(tmp_path, spoil, message):
    content = coco_content()
    spoil(content)
    root = coco_folder(tmp_path / "root", val=content)
    with pytest.raises(DatasetError, match=rf"instances_val\.json.*{message}"):
        load(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(coco_content())[:300], "not a whole JSON file .*line 1 column"),
        ("", "not a whole JSON file"),
        ("[" * 100_000, "not a whole JSON file"),
        ('"text"', "has no list images and no list annotations and no list categories"),
    ],
)
def test_what_is_no_coco_file_is_refused(root, text, message):
    (root / "annotations" / "instances_val.json").write_text(text)
    with pytest.raises(DatasetError, match=rf"instances_val\.json:? .*{message}"):
        load(root)


def test_files_of_unknown_categories_alone_are_refused(tmp_path):
    content = coco_content()
    for annotation in content["annotations"]:
        annotation["category_id"] = 100
    root = coco_folder(tmp_path / "root", val=content)
    with pytest.raises(DatasetError, match="4 annotations are of a category .*; no annotation is"):
        load(root)


def test_a_training_split_of_crowds_alone_is_refused(tmp_path):
    content = {**coco_content(), "annotations": [crowd_annotation(1, image=2)]}
    root = coco_folder(tmp_path / "root", train=content)
    with pytest.raises(DatasetError, match="nothing to learn; unusable are 1 of 1 instances"):
        load(root)


def test_files_without_images_are_refused(tmp_path):
    content = {**coco_content(), "images": [], "annotations": []}
    with pytest.raises(DatasetError, match=r"instances_val\.json has no images"):
        load(coco_folder(tmp_path / "root", val=content))


def test_links_out_of_the_folder_are_refused(root):
    (root / "val" / "2.png").unlink()
    (root / "val" / "2.png").symlink_to("/etc/passwd")
    with pytest.raises(DatasetError, match="2.png is a link out of"):
        load(root)


def test_images_that_change_later_are_named(root):
    dataset = load(root)
    (root / "val" / "5.png").write_bytes(encode(smooth_image(0, 48, 64)))
    with pytest.raises(ImageError, match=r"val/5\.png: 48x64 pixels .*, its annotations .* 64x48"):
        decode_instances(dataset.eval[0])
    (root / "val" / "5.png").unlink()
    with pytest.raises(ImageError, match=r"val/5\.png: cannot be read \(No such file"):
        dataset.eval[0]


def places_in(value, path=()):
    """The paths of all values of a JSON object."""
    keys = value if isinstance(value, dict) else range(len(value)) if type(value) is list else ()
    for key in keys:
        yield (*path, key)
        yield from places_in(value[key], (*path, key))


PLACES = [*places_in(coco_content())]
# Of each annotation's long list the first value stands for all.
SHORT = [path for path in PLACES if path[-1] in (0, 1) or isinstance(path[-1], str)]


@pytest.mark.parametrize(
    "value", [None, "x", "", -1, 0, 2.5, math.inf, 10**30, True, [], {}, [[]], ["1"], {"id": 1}]
)
def test_any_value_anywhere_is_read_or_refused(tmp_path, value):
    """Nothing but a clear error, or instances that can be used."""
    root = coco_folder(tmp_path / "root")
    file = root / "annotations" / "instances_val.json"
    refused = 0
    for path in SHORT:
        content = coco_content()
        parent = content
        for key in path[:-1]:
            parent = parent[key]
        parent[path[-1]] = value
        file.write_text(json.dumps(content))
        try:
            for record in load(root).eval:
                for mask in filter(None, record["instances"].masks):
                    assert decode_rle(mask).shape == record["size"]
        except DatasetError as error:
            refused += str(file) in str(error)
    assert refused > len(SHORT) / 3
