"""Anybody's pictures: root/train/CLASS/*.jpg and root/test/CLASS/*.jpg."""

import dataclasses
import os
import pathlib

from PIL import Image

from cluenet_jax.data.decode import FORMATS
from cluenet_jax.errors import DatasetError

TEST_FOLDERS = ("test", "val", "validation")


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """Random access to the files of one split, sorted by class and name."""

    files: tuple[tuple[str, int], ...]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict:
        path, label = self.files[index]
        try:
            data = pathlib.Path(path).read_bytes()
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read ({error.strerror}).") from error
        return {"image": data, "label": label, "name": path}


def open_image_folder(
    root: str, train_folder: str = "", test_folder: str = ""
) -> tuple[tuple[str, ...], FolderSource, FolderSource]:
    """Lists an image folder.

    Args:
      root: Holds a folder per split, which holds a folder per class.
      train_folder: Name of the training split, "train" if empty.
      test_folder: Name of the test split; if empty the first of `TEST_FOLDERS` there is.

    Returns:
      The class names (the training folders, sorted), the training and the test source.

    Raises:
      DatasetError: Names the folder that is missing, empty or has a class too many,
        or the link that leads out of `root`.
    """
    if not root:
        raise DatasetError(
            "image_folder needs --config.data.dir=ROOT, with ROOT/train/CLASS/*.jpg and "
            "ROOT/test/CLASS/*.jpg (or val)."
        )
    base = pathlib.Path(root).expanduser()
    if not base.is_dir():
        raise DatasetError(f"data.dir={root}: there is no such folder.")
    train = _split_folder(base, (train_folder or "train",))
    test = _split_folder(base, (test_folder,) if test_folder else TEST_FOLDERS)
    classes = tuple(folder.name for folder in _class_folders(train))
    extra = sorted({folder.name for folder in _class_folders(test)} - set(classes))
    if extra:
        raise DatasetError(
            f"{test}: classes that {train} lacks: {', '.join(extra)}. Both must have the same "
            "class folders."
        )
    return classes, _list_files(train, classes), _list_files(test, classes)


def list_pictures(folder: str | pathlib.Path) -> list[str]:
    """All picture files in a folder and the folders in it, by their endings, sorted."""
    extensions = Image.registered_extensions().items()
    suffixes = {suffix for suffix, name in extensions if name in FORMATS}
    found = []
    # A link to a folder is not entered: a loop would list its pictures many times.
    for parent, _, names in os.walk(folder):
        paths = [os.path.join(parent, name) for name in names]
        found += [path for path in paths if os.path.splitext(path)[1].lower() in suffixes]
    return sorted(found)


def _split_folder(base: pathlib.Path, names: tuple[str, ...]) -> pathlib.Path:
    for name in names:
        if name == ".." or pathlib.PurePath(name).name != name or "[" in name:
            raise DatasetError(
                f"{name!r} is not the name of a folder in {base}; parts such as 'train[:10%]' are "
                "for TFDS datasets."
            )
        if (base / name).is_dir():
            return base / name
    present = sorted(p.name for p in base.iterdir() if p.is_dir())
    raise DatasetError(
        f"{base} has no folder {' or '.join(names)}; folders there: {', '.join(present) or 'none'}."
    )


def _class_folders(split: pathlib.Path) -> list[pathlib.Path]:
    folders = sorted(p for p in split.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        raise DatasetError(f"{split} has no class folders; expected {split}/CLASS/*.jpg.")
    return folders


def _list_files(split: pathlib.Path, classes: tuple[str, ...]) -> FolderSource:
    inside = split.parent.resolve()
    label_of = {name: label for label, name in enumerate(classes)}
    files = []
    for folder in _class_folders(split):
        _check_inside(folder, inside)
        found = list_pictures(folder)
        for path in filter(os.path.islink, found):
            _check_inside(pathlib.Path(path), inside)
        if not found:
            raise DatasetError(f"{folder} has no pictures.")
        files += [(path, label_of[folder.name]) for path in found]
    return FolderSource(tuple(files))


def _check_inside(path: pathlib.Path, root: pathlib.Path) -> None:
    if not path.resolve().is_relative_to(root):
        raise DatasetError(f"{path} is a link out of {root}; put the pictures themselves there.")
