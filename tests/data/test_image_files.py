"""Image files: what is listed, and what is refused."""

import pytest

from cluenet_jax.data import list_images, read_image_file
from cluenet_jax.data.image_files import find_root, listed_image
from cluenet_jax.errors import DatasetError, ImageError
from tests.helpers.images import encode, smooth_image


def test_the_root_of_a_dataset_is_the_folder_or_a_published_one_in_it(tmp_path):
    def find(root):
        return find_root("pets", str(root), "ROOT/cats", "v1", "v2")

    with pytest.raises(DatasetError, match=r"pets needs --config.data.dir=ROOT, with ROOT/cats\."):
        find("")
    with pytest.raises(DatasetError, match=r"data\.dir=.*nowhere: there is no such folder"):
        find(tmp_path / "nowhere")
    (tmp_path / "v1").write_text("a file")
    assert find(tmp_path) == tmp_path
    (tmp_path / "v2").mkdir()
    assert find(tmp_path) == tmp_path / "v2"


def test_images_are_listed_by_their_endings_in_order(tmp_path):
    (tmp_path / "inner").mkdir()
    for name in ("b.PNG", "a.jpg", "inner/c.webp", "d.eps", "e.mpg", "f.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "inner" / "loop").symlink_to(tmp_path)
    names = ["a.jpg", "b.PNG", "inner/c.webp"]
    assert list_images(tmp_path) == [str(tmp_path / name) for name in names]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "cat.png"
    path.write_bytes(encode(smooth_image(0)))
    assert read_image_file(path) == path.read_bytes()
    path.unlink()
    with pytest.raises(ImageError, match=r"cat\.png: cannot be read \(No such file"):
        read_image_file(path)


def test_a_list_cannot_name_a_file_elsewhere(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"")
    with pytest.raises(DatasetError, match="not inside"):
        listed_image(tmp_path / "images", "../secret.jpg")
    with pytest.raises(DatasetError, match="listed, but missing"):
        listed_image(tmp_path / "images", "gone.jpg")
