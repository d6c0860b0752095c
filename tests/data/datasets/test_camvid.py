"""CamVid's layout: three splits, and a value that is not counted."""

import numpy as np

from cluenet_jax.data import IGNORED, decode_pair, describe_dataset, load_dataset
from tests.helpers.images import mask_folder, stripes


def test_camvid(tmp_path):
    root = mask_folder(tmp_path / "camvid", ("train", "val", "test"), values=12)
    for data_dir in (root, tmp_path):
        dataset = load_dataset("camvid", str(data_dir))
        assert "images/test/" in dataset.eval[0]["name"]
        assert len(load_dataset("camvid", str(data_dir), eval_split="val").eval) == 3
    assert dataset.info.class_names[:4] == ("Sky", "Building", "Pole", "Road")
    assert dataset.info.num_classes == 11 and len(set(dataset.info.colors)) == 11
    assert describe_dataset("camvid").colors == dataset.info.colors
    mask = decode_pair(dataset.eval[0])[1]
    expected = stripes(12)
    np.testing.assert_array_equal(mask, np.where(expected == 11, IGNORED, expected))
