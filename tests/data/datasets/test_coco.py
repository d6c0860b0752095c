"""The published COCO: its layout, and its 80 categories whose ids have gaps."""

import pytest

from cluenet_jax.data import describe_dataset, load_dataset
from cluenet_jax.errors import DatasetError
from tests.helpers.coco import coco_content, coco_folder, polygon_annotation

GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
IDS = [number for number in range(1, 91) if number not in GAPS]


def published(root, ids):
    content = coco_content()
    content["categories"] = [{"id": number, "name": f"name {number}"} for number in ids[::-1]]
    annotations = [polygon_annotation(i, 2, category=ids[-1 - i]) for i in range(3)]
    content["annotations"] = annotations
    coco_folder(root, train=content, val=content)
    for split in ("train", "val"):
        (root / split).rename(root / f"{split}2017")
        file = root / "annotations" / f"instances_{split}.json"
        file.rename(root / "annotations" / f"instances_{split}2017.json")
    return root


def test_ids_become_labels_in_ascending_order(tmp_path):
    root = published(tmp_path / "coco", IDS)
    for folder in (root, tmp_path):
        dataset = load_dataset("coco", str(folder))
        assert dataset.info.num_classes == describe_dataset("coco").num_classes == 80
        assert dataset.info.class_names[0] == "name 1" and dataset.info.class_names[11] == "name 13"
        assert dataset.train[0]["instances"].labels.tolist() == [79, 78, 77]
    assert len(load_dataset("coco", str(root), eval_split="train2017").eval) == 3


def test_other_categories_are_refused(tmp_path):
    root = published(tmp_path / "own", IDS[:12])
    with pytest.raises(DatasetError, match="12 categories, not 80; take the published .*coco_json"):
        load_dataset("coco", str(root))
