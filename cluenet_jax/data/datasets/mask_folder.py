"""The user's own masks: root/{images,annotations}/{train,val}/ and root/classes.txt."""

import dataclasses
import os
import pathlib

from cluenet_jax.data.datasets.info import Opened, Rgb8
from cluenet_jax.data.decode_mask import IGNORED, MaskFormat
from cluenet_jax.data.image_files import (
    check_inside,
    find_root,
    list_images,
    read_image_file,
    split_folder,
)
from cluenet_jax.data.records import Record
from cluenet_jax.errors import DatasetError

EVAL_FOLDERS = ("val", "validation", "test")
CLASSES_FILE = "classes.txt"
CONTENT = "ROOT/images/SPLIT/NAME.jpg and ROOT/annotations/SPLIT/NAME.png"
# The name of a value whose pixels are not counted.
IGNORE = "ignore"
# Names of files in messages.
_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class PairSource:
    """Random access to the images and masks of one split, sorted by name."""

    pairs: tuple[tuple[str, str], ...]
    mask_format: MaskFormat

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Record:
        image, mask = self.pairs[index]
        return {
            "image": read_image_file(image),
            "mask": read_image_file(mask),
            "mask_format": self.mask_format,
            "name": image,
        }


@dataclasses.dataclass(frozen=True)
class Classes:
    """The classes of masks.

    Attributes:
      names: By label.
      colors: By label; empty if they have none.
      mask_format: How the files hold them.
    """

    names: tuple[str, ...]
    colors: tuple[Rgb8, ...]
    mask_format: MaskFormat


def open_mask_folder(root: str, train_folder: str = "", eval_folder: str = "") -> Opened:
    """Lists a folder of images and masks of the same names.

    Args:
      root: Folder with images/SPLIT/NAME.jpg (or any other format), annotations/SPLIT/NAME.png
        and classes.txt, see `read_classes`.
      train_folder: Name of the training split, "train" if empty.
      eval_folder: Name of the eval split; if empty the first of `EVAL_FOLDERS` there is.

    Raises:
      DatasetError: Names the folder or file that is missing, empty, or without its partner.
    """
    base = find_root("mask_folder", root, CONTENT)
    classes = read_classes(base / CLASSES_FILE)
    return open_splits(
        base, classes, (train_folder or "train",), (eval_folder,) if eval_folder else EVAL_FOLDERS
    )


def open_splits(
    base: pathlib.Path, classes: Classes, train: tuple[str, ...], evaluation: tuple[str, ...]
) -> Opened:
    """Lists both splits of a folder, each the first of the names that it has."""
    sources = [
        PairSource(_list_pairs(base, split), classes.mask_format) for split in (train, evaluation)
    ]
    return Opened(classes.names, *sources, classes.colors)


def read_classes(path: pathlib.Path) -> Classes:
    """Reads a list of classes.

    A line per value of the masks, 0 first: a name, and optionally its color in RGB masks as three
    numbers 0 .. 255 (all classes or none). A value whose line says `ignore` is not counted; 255
    never is. Empty lines are skipped.

    Raises:
      DatasetError: The file is missing or not such a list; names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise DatasetError(
            f"{path}: cannot be read ({reason}); it holds the name of a class per line."
        ) from error
    rows = [_parse(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    names = tuple(name for name, _ in rows if name != IGNORE)
    _check_names(path, names)
    _check_colors(path, rows)
    labels = iter(range(len(names)))
    values = tuple(IGNORED if name == IGNORE else next(labels) for name, _ in rows)
    colors = tuple(color for _, color in rows)
    own = tuple(color for name, color in rows if name != IGNORE and color)
    return Classes(names, own, MaskFormat(values, colors if own else ()))


def _parse(path: pathlib.Path, number: int, line: str) -> tuple[str, Rgb8 | None]:
    parts = line.split()
    if len(parts) < 4 or not all(word.isdecimal() for word in parts[-3:]):
        return " ".join(parts), None
    color = tuple(map(int, parts[-3:]))
    if max(color) > 255:
        raise DatasetError(f"{path}, line {number}: color {color}; its numbers are 0 .. 255.")
    return " ".join(parts[:-3]), color


def _check_names(path: pathlib.Path, names: tuple[str, ...]) -> None:
    if not names:
        raise DatasetError(f"{path} has no classes; it holds the name of a class per line.")
    if len(names) > IGNORED:
        raise DatasetError(f"{path} has {len(names)} classes; at most {IGNORED} are possible.")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DatasetError(f"{path}: classes named twice: {', '.join(repeated)}.")


def _check_colors(path: pathlib.Path, rows: list[tuple[str, Rgb8 | None]]) -> None:
    missing = [name for name, color in rows if color is None and name != IGNORE]
    if missing and len(missing) < len([name for name, _ in rows if name != IGNORE]):
        raise DatasetError(
            f"{path}: no color for {', '.join(missing)}; give all classes one, or none."
        )
    owners: dict[Rgb8, str] = {}
    for name, color in rows:
        if color is not None and owners.setdefault(color, name) != name:
            raise DatasetError(f"{path}: {owners[color]} and {name} have the same color {color}.")


def _list_pairs(base: pathlib.Path, splits: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    split = split_folder(split_folder(base, ("images",)), splits).name
    folders = [split_folder(base / kind, (split,)) for kind in ("images", "annotations")]
    images, masks = (_files_by_name(folder, base.resolve()) for folder in folders)
    if not images:
        raise DatasetError(f"{folders[0]} has no images.")
    _check_partners(images, masks, f"images in {folders[0]} without a mask in {folders[1]}")
    _check_partners(masks, images, f"masks in {folders[1]} without an image in {folders[0]}")
    return tuple((images[name], masks[name]) for name in sorted(images))


def _files_by_name(folder: pathlib.Path, root: pathlib.Path) -> dict[str, str]:
    """Paths by the file's path in `folder`, without its ending."""
    check_inside(folder, root)
    files: dict[str, str] = {}
    for path in list_images(folder):
        if os.path.islink(path):
            check_inside(pathlib.Path(path), root)
        name = os.path.splitext(os.path.relpath(path, folder))[0]
        if name in files:
            raise DatasetError(f"{files[name]} and {path} differ in their ending alone; keep one.")
        files[name] = path
    return files


def _check_partners(files: dict[str, str], partners: dict[str, str], problem: str) -> None:
    alone = sorted(files.keys() - partners.keys())
    if alone:
        shown = ", ".join(os.path.basename(files[name]) for name in alone[:_SHOWN])
        dots = ", ..." if len(alone) > _SHOWN else ""
        raise DatasetError(f"{len(alone)} {problem}: {shown}{dots}.")
