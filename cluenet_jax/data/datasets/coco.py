"""COCO 2017: 118,287 images to learn from and 5,000 to evaluate on, in 80 categories.

Source: T.-Y. Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014.
"""

from cluenet_jax.data.datasets.coco_json import CONTENT, find_split, open_files
from cluenet_jax.data.datasets.info import Opened
from cluenet_jax.data.image_files import find_root
from cluenet_jax.errors import DatasetError

NUM_CLASSES = 80


def open_coco(data_dir: str, train_split: str = "", eval_split: str = "") -> Opened:
    """The published files.

    Labels 0 .. 79 are the ids of the categories, 1 .. 90, in ascending order.

    Args:
      data_dir: Folder with train2017/, val2017/ and annotations/instances_{train,val}2017.json,
        or with a folder coco that has them.
      train_split, eval_split: As for `coco_json`; "train2017" and "val2017" if empty.

    Raises:
      DatasetError: Names the file, folder or entry that is missing or wrong.
    """
    base = find_root("coco", data_dir, CONTENT, "coco")
    splits = (train_split or "train2017", eval_split or "val2017")
    opened = open_files(*(find_split(base, split) for split in splits))
    if len(opened.class_names) != NUM_CLASSES:
        raise DatasetError(
            f"{base} names {len(opened.class_names)} categories, not {NUM_CLASSES}; take the "
            "published files, or data.name=coco_json for those of your own."
        )
    return opened
