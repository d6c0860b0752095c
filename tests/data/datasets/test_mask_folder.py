"""Folders of masks: pairs by name, lists of classes, and errors that name file and line."""

import numpy as np
import pytest

from cluenet_jax.data import IGNORED, decode_pair, load_dataset
from cluenet_jax.errors import DatasetError, ImageError
from tests.helpers.images import encode, mask_folder, smooth_image, stripes


@pytest.fixture
def root(tmp_path):
    root = mask_folder(tmp_path / "root")
    (root / "classes.txt").write_text("sky\nroad sign\ntree\n")
    return root


def load(root, **splits):
    return load_dataset("mask_folder", str(root), **splits)


def test_images_are_paired_with_masks(root):
    for kind, ending in (("images", "jpg"), ("annotations", "png")):
        (root / kind / "train" / "more").mkdir()
        (root / kind / "train" / f"0.{ending}").rename(root / kind / f"train/more/0.{ending}")
    dataset = load(root)
    assert dataset.info.class_names == ("sky", "road sign", "tree") and not dataset.info.colors
    assert (len(dataset.train), len(dataset.eval)) == (3, 3)
    assert dataset.train[2]["name"].endswith("images/train/more/0.jpg")
    image, mask = decode_pair(dataset.train[2])
    assert image.shape == (30, 40, 3)
    np.testing.assert_array_equal(mask, stripes(3))


def test_splits_are_folders(root):
    assert len(load(root, train_split="val").train) == 3
    for kind in ("images", "annotations"):
        (root / kind / "val").rename(root / kind / "exam")
    assert len(load(root, eval_split="exam").eval) == 3
    with pytest.raises(
        DatasetError, match="images has no folder val or validation or test; .*exam"
    ):
        load(root)
    with pytest.raises(DatasetError, match="is not the name of a folder"):
        load(root, train_split="train[:10%]")


def test_a_list_of_classes_may_have_colors_and_ignored_values(root):
    text = "ignore 0 0 0\nsky 1 2 3\n\n  road   sign 255 0 0 \nignore\n"
    (root / "classes.txt").write_text(text)
    dataset = load(root)
    assert dataset.info.class_names == ("sky", "road sign")
    assert dataset.info.colors == dataset.info.palette == ((1, 2, 3), (255, 0, 0))
    mask_format = dataset.train[0]["mask_format"]
    assert mask_format.labels == (IGNORED, 0, 1, IGNORED)
    assert mask_format.colors == ((0, 0, 0), (1, 2, 3), (255, 0, 0), None)
    mask = decode_pair(dataset.train[0])[1]
    np.testing.assert_array_equal(mask, np.array([255, 0, 1], np.uint8)[stripes(3)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no classes; it holds the name of a class per line"),
        ("ignore\n\n", "has no classes"),
        ("sky\ntree\nsky\n", "classes named twice: sky"),
        ("sky 1 2 3\ntree\n", "no color for tree; give all classes one, or none"),
        ("sky 1 2 3\ntree 1 2 3\n", r"sky and tree have the same color \(1, 2, 3\)"),
        ("ignore 1 2 3\ntree 1 2 3\n", r"ignore and tree have the same color"),
        ("sky 1 2 3\ntree 1 2 300\n", r", line 2: color \(1, 2, 300\); .*0 \.\. 255"),
        ("\n".join(map(str, range(256))), "has 256 classes; at most 255"),
        (b"caf\xe9\n", "cannot be read .not UTF-8.; it holds the name of a class per line"),
        (None, "cannot be read .No such file"),
    ],
)
def test_bad_lists_of_classes_are_refused(root, text, message):
    path = root / "classes.txt"
    path.unlink()
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DatasetError, match=rf"classes\.txt.*{message}"):
        load(root)


def remove_folder(folder):
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def make_empty(root):
    for kind in ("images", "annotations"):
        remove_folder(root / kind / "train")
        (root / kind / "train").mkdir()


def write_image_twice(root):
    (root / "images/val/1.bmp").write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda root: (root / "annotations/val/1.png").unlink(),
            r"1 images in .*val without a mask in .*annotations/val: 1\.jpg",
        ),
        (
            lambda root: (root / "images/train/2.jpg").unlink(),
            r"1 masks in .*train without an image in .*: 2\.png",
        ),
        (write_image_twice, r"1\.(bmp|jpg) and .* differ in their ending alone"),
        (
            lambda root: remove_folder(root / "annotations/val"),
            "annotations has no folder val; folders there: train",
        ),
        (make_empty, "images/train has no images"),
        (
            lambda root: (root / "images").rename(root / "pixels"),
            "has no folder images; folders there: annotations, pixels",
        ),
        (
            lambda root: (root / "images/val/9.png").symlink_to("/etc/passwd"),
            r"9\.png is a link out of",
        ),
    ],
)
def test_incomplete_folders_are_refused(root, spoil, message):
    spoil(root)
    with pytest.raises(DatasetError, match=message):
        load(root)


def test_missing_roots_are_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"mask_folder needs --config\.data\.dir=ROOT, with"):
        load("")
    with pytest.raises(DatasetError, match="there is no such folder"):
        load(tmp_path / "nowhere")


def test_files_that_change_later_are_named(root):
    dataset = load(root)
    (root / "annotations/val/1.png").unlink()
    with pytest.raises(ImageError, match=r"annotations/val/1\.png: cannot be read \(No such file"):
        dataset.eval[1]
    (root / "images/val/2.jpg").write_bytes(encode(smooth_image(0, 20, 20)))
    with pytest.raises(ImageError, match=r"mask of .*val/2\.jpg: 40x30 pixels, the image.* 20x20"):
        decode_pair(dataset.eval[2])


def test_many_partners_that_are_missing_are_not_all_listed(root):
    for i in range(10, 20):
        (root / "images" / "val" / f"{i}.jpg").write_bytes(encode(smooth_image(i)))
    with pytest.raises(DatasetError, match=r"10 images .*: 10\.jpg, .*14\.jpg, \.\.\.\."):
        load(root)
