"""ADE20K's scene parsing benchmark: about 22,000 images in 150 classes.

Source: B. Zhou et al., Scene Parsing through ADE20K Dataset, CVPR 2017.
"""

import pathlib

from cluenet_jax.data.datasets.info import Opened
from cluenet_jax.data.datasets.mask_folder import CONTENT, Classes, open_splits
from cluenet_jax.data.decode_mask import IGNORED, MaskFormat
from cluenet_jax.data.image_files import find_root
from cluenet_jax.errors import DatasetError

FOLDER = "ADEChallengeData2016"
NAMES_FILE = "objectInfo150.txt"
NUM_CLASSES = 150
# Value 0 is what belongs to no class.
_FORMAT = MaskFormat((IGNORED, *range(NUM_CLASSES)))


def open_ade20k(data_dir: str, train_split: str = "", eval_split: str = "") -> Opened:
    """20,210 images to train on and 2,000 to evaluate on.

    Args:
      data_dir: The published folder ADEChallengeData2016, with images/{training,validation} and
        annotations/{training,validation}, or the folder that has it. Classes get their names of
        its objectInfo150.txt; without that file their numbers from 0.
      train_split, eval_split: Names of these folders; "training" and "validation" if empty.

    Raises:
      DatasetError: Names the folder or file that is missing.
    """
    base = find_root("ade20k", data_dir, CONTENT, FOLDER)
    classes = Classes(_read_names(base / NAMES_FILE), (), _FORMAT)
    return open_splits(base, classes, (train_split or "training",), (eval_split or "validation",))


def _read_names(path: pathlib.Path) -> tuple[str, ...]:
    """The first synonym of each class, or all of them where others begin with the same."""
    if not path.is_file():
        return tuple(map(str, range(NUM_CLASSES)))
    # A header; then the number, three statistics and the synonyms, with tabs between them.
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    synonyms = [line.split("\t")[-1].strip() for line in lines if line.strip()]
    first = [names.split(",")[0].strip() for names in synonyms]
    names = tuple(
        short if first.count(short) == 1 else whole
        for short, whole in zip(first, synonyms, strict=True)
    )
    if len(set(names)) != NUM_CLASSES:
        raise DatasetError(
            f"{path} names {len(set(names))} classes, not {NUM_CLASSES}; take the published file."
        )
    return names
