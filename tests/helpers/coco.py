"""A small dataset in COCO's layout, made by code."""

import json
import pathlib
from typing import Any

from tests.helpers.images import encode, smooth_image

# Height and width of all images.
SIZE = (48, 64)


def polygon_annotation(number: int, image: int, category: int = 7, **fields: Any) -> dict[str, Any]:
    """A rectangle of 20x10 pixels at (4, 6)."""
    corners = [4, 6, 24, 6, 24, 16, 4, 16]
    box = {"bbox": [4, 6, 20, 10], "area": 200, "iscrowd": 0, "segmentation": [corners]}
    return {"id": number, "image_id": image, "category_id": category, **box, **fields}


def crowd_annotation(number: int, image: int) -> dict[str, Any]:
    """The first two columns, in plain runs."""
    runs = {"size": [*SIZE], "counts": [0, 96, 48 * 62]}
    fields = {"bbox": [0, 0, 2, 48], "area": 96, "iscrowd": 1, "segmentation": runs}
    return {"id": number, "image_id": image, "category_id": 3, **fields}


def coco_content() -> dict[str, Any]:
    """Images 5, 2 and 9, the last one without annotations; categories 7 and 3."""
    return {
        "images": [
            {"id": number, "file_name": f"{number}.png", "height": SIZE[0], "width": SIZE[1]}
            for number in (5, 2, 9)
        ],
        "annotations": [
            polygon_annotation(11, image=2),
            polygon_annotation(12, image=5, category=3, bbox=[4.5, 6, 19.5, 10]),
            crowd_annotation(13, image=2),
            polygon_annotation(14, image=2, category=3),
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
    }


def coco_folder(root: pathlib.Path, **contents: dict[str, Any]) -> pathlib.Path:
    """root/{train,val}/*.png and root/annotations/instances_{train,val}.json.

    Args:
      root: A new folder.
      contents: By split, in place of `coco_content`.
    """
    (root / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        content = contents.get(split, coco_content())
        (root / split).mkdir()
        for number in (5, 2, 9):
            image = encode(smooth_image(number, SIZE[1], SIZE[0]))
            (root / split / f"{number}.png").write_bytes(image)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root
