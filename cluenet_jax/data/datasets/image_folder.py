"""The user's own images: root/train/CLASS/*.jpg and root/test/CLASS/*.jpg."""

import dataclasses
import os
import pathlib

from cluenet_jax.data.image_files import (
    check_inside,
    find_root,
    list_images,
    read_image_file,
    split_folder,
)
from cluenet_jax.data.records import Record
from cluenet_jax.errors import DatasetError

EVAL_FOLDERS = ("test", "val", "validation")
_CONTENT = "ROOT/train/CLASS/*.jpg and ROOT/test/CLASS/*.jpg (or val)"


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """Random access to the files of one split, sorted by class and name."""

    files: tuple[tuple[str, int], ...]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Record:
        path, label = self.files[index]
        return {"image": read_image_file(path), "label": label, "name": path}


def open_image_folder(
    root: str, train_folder: str = "", eval_folder: str = ""
) -> tuple[tuple[str, ...], FolderSource, FolderSource]:
    """Lists an image folder.

    Args:
      root: Folder with a folder per split, which has a folder per class.
      train_folder: Name of the training split, "train" if empty.
      eval_folder: Name of the eval split; if empty the first of `EVAL_FOLDERS` there is.

    Returns:
      The class names (the training folders, sorted), the training and the eval source.

    Raises:
      DatasetError: Names the folder that is missing, empty or has a class too many,
        or the link that leads out of `root`.
    """
    base = find_root("image_folder", root, _CONTENT)
    train = split_folder(base, (train_folder or "train",))
    evaluation = split_folder(base, (eval_folder,) if eval_folder else EVAL_FOLDERS)
    classes = tuple(folder.name for folder in _class_folders(train))
    extra = sorted({folder.name for folder in _class_folders(evaluation)} - set(classes))
    if extra:
        raise DatasetError(
            f"{evaluation}: classes that {train} lacks: {', '.join(extra)}. Both must have the "
            "same class folders."
        )
    return classes, _list_files(train, classes), _list_files(evaluation, classes)


def _class_folders(split: pathlib.Path) -> list[pathlib.Path]:
    folders = sorted(p for p in split.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        raise DatasetError(f"{split} has no class folders; expected {split}/CLASS/*.jpg.")
    return folders


def _list_files(split: pathlib.Path, classes: tuple[str, ...]) -> FolderSource:
    root = split.parent.resolve()
    label_of = {name: label for label, name in enumerate(classes)}
    files = []
    for folder in _class_folders(split):
        check_inside(folder, root)
        paths = list_images(folder)
        for path in filter(os.path.islink, paths):
            check_inside(pathlib.Path(path), root)
        if not paths:
            raise DatasetError(f"{folder} has no images.")
        files += [(path, label_of[folder.name]) for path in paths]
    return FolderSource(tuple(files))
