"""Image folders: the listing, and errors that name the folder."""

import pytest

from cluenet_jax.data import eval_batches, load_dataset, train_batches
from cluenet_jax.errors import DatasetError, ImageError
from tests.data.test_loader import eval_example, plain_example
from tests.helpers.images import encode, image_folder, smooth_image


def test_image_folder(tmp_path):
    dataset = load_dataset("image_folder", str(image_folder(tmp_path)))
    assert dataset.info.class_names == ("cat", "dog")
    assert (len(dataset.train), len(dataset.eval)) == (12, 6)
    assert [dataset.eval[i]["label"] for i in range(6)] == [0, 0, 0, 1, 1, 1]
    assert dataset.eval[4]["name"].endswith("test/dog/001.png")
    (tmp_path / "test").rename(tmp_path / "val")
    assert len(load_dataset("image_folder", str(tmp_path)).eval) == 6
    (tmp_path / "val").rename(tmp_path / "exam")
    assert len(load_dataset("image_folder", str(tmp_path), eval_split="exam").eval) == 6


def test_errors_name_the_folder(tmp_path):
    def assert_refused(match: str, root=tmp_path) -> None:
        with pytest.raises(DatasetError, match=match):
            load_dataset("image_folder", str(root))

    assert_refused("needs --config.data.dir", root="")
    assert_refused("there is no such folder", root=tmp_path / "nowhere")
    assert_refused("has no folder train; folders there: none")
    (tmp_path / "train").mkdir()
    assert_refused("has no folder test or val or validation; folders there: train")
    (tmp_path / "test").mkdir()
    assert_refused("train has no class folders")
    (tmp_path / "train" / "cat").mkdir()
    (tmp_path / "test" / "dog").mkdir()
    assert_refused("classes that .*train lacks: dog")
    (tmp_path / "train" / "dog").mkdir()
    assert_refused("train/cat has no images")


def test_no_link_out_of_the_folder_is_followed(tmp_path):
    root = image_folder(tmp_path / "root")
    outside = tmp_path / "secret.png"
    outside.write_bytes(encode(smooth_image(1)))
    link = root / "train" / "cat" / "link.png"
    link.symlink_to(outside)
    with pytest.raises(DatasetError, match=r"link\.png is a link out of"):
        load_dataset("image_folder", str(root))
    link.unlink()
    (root / "train" / "cat" / "loop").symlink_to(root / "train" / "cat")
    (root / "train" / "cat" / "inner.png").symlink_to(root / "train" / "cat" / "000.png")
    assert len(load_dataset("image_folder", str(root)).train) == 13
    (root / "train" / "fox").symlink_to(tmp_path)
    with pytest.raises(DatasetError, match="fox is a link out of"):
        load_dataset("image_folder", str(root))


@pytest.mark.parametrize("split", ["../train", "train[:50%]", ".."])
def test_splits_are_folder_names(split, tmp_path):
    with pytest.raises(DatasetError, match="is not the name of a folder"):
        load_dataset("image_folder", str(image_folder(tmp_path)), train_split=split)


def test_only_images_are_listed(tmp_path):
    root = image_folder(tmp_path)
    for name in ("a.eps", "b.mpg", "c.txt"):
        (root / "train" / "cat" / name).write_bytes(b"%!PS")
    assert len(load_dataset("image_folder", str(root)).train) == 12


def test_a_file_that_disappears_is_skipped_in_training_and_named_in_evaluation(tmp_path, caplog):
    root = image_folder(tmp_path / "images", train=4, test=4, side=8)
    dataset = load_dataset("image_folder", str(root))
    for split in ("train", "test"):
        (root / split / "dog" / "002.png").unlink()
    settings = dict(batch_size=8, seed=0, max_corrupt_fraction=0.2)
    stream = train_batches(dataset.train, plain_example, **settings)
    assert next(stream)["image"].shape == (8, 8, 8, 3)
    stream.close()
    assert stream.corrupt == {6} and "train/dog/002.png: cannot be read" in caplog.text
    with pytest.raises(ImageError, match=r"test/dog/002\.png: cannot be read \(No such file"):
        list(eval_batches(dataset.eval, eval_example, batch_size=8))
