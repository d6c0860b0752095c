"""ADE20K's layout: 0 is no class, and names of the published list."""

import numpy as np
import pytest

from cluenet_jax.data import IGNORED, decode_pair, load_dataset
from cluenet_jax.errors import DatasetError
from tests.helpers.images import mask_folder, stripes

SPLITS = ("training", "validation")


def object_info(synonyms: list[str]) -> str:
    rows = [f"{i}\t0.1\t1\t1\t{names}" for i, names in enumerate(synonyms, 1)]
    return "\n".join(["Idx\tRatio\tTrain\tVal\tName", *rows]) + "\n"


def test_ade20k(tmp_path):
    root = mask_folder(tmp_path / "ADEChallengeData2016", SPLITS, values=3)
    dataset = load_dataset("ade20k", str(tmp_path))
    assert (len(dataset.train), len(dataset.eval)) == (3, 3)
    assert dataset.info.class_names == tuple(map(str, range(150)))
    assert len(dataset.info.palette) == 150 and not dataset.info.colors
    mask = decode_pair(dataset.eval[0])[1]
    np.testing.assert_array_equal(mask, np.array([IGNORED, 0, 1], np.uint8)[stripes(3)])

    synonyms = [f"thing {i}, object {i}" for i in range(148)] + ["door, gate", "door, portal"]
    (root / "objectInfo150.txt").write_text(object_info(synonyms))
    names = load_dataset("ade20k", str(root)).info.class_names
    assert (names[0], *names[-3:]) == ("thing 0", "thing 147", "door, gate", "door, portal")
    (root / "objectInfo150.txt").write_text(object_info(synonyms[:149]))
    with pytest.raises(DatasetError, match=r"objectInfo150\.txt names 149 classes, not 150"):
        load_dataset("ade20k", str(root))
