"""The user's own boxes in files of PASCAL VOC: JPEGImages/, Annotations/ and ImageSets/Main/.

Source: M. Everingham et al., The PASCAL Visual Object Classes Challenge, 2010.
"""

import collections
import math
import pathlib
import xml.etree.ElementTree as ElementTree

from cluenet_jax.data.datasets.info import Opened
from cluenet_jax.data.datasets.instance_source import (
    InstanceSource,
    LabeledImage,
    find_image,
    training_source,
)
from cluenet_jax.data.datasets.mask_folder import CLASSES_FILE, read_classes
from cluenet_jax.data.image_files import find_root
from cluenet_jax.data.instances import Instances
from cluenet_jax.data.rle import Size
from cluenet_jax.errors import DatasetError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_CONTENT = "ROOT/JPEGImages/NAME.jpg, ROOT/Annotations/NAME.xml and ROOT/ImageSets/Main/SPLIT.txt"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
# A name, its box, and whether it is difficult.
_Object = tuple[str, tuple[float, ...], bool]


def open_voc_boxes(root: str, train_split: str = "", eval_split: str = "") -> Opened:
    """Reads the annotations of both splits.

    Classes are those of ROOT/classes.txt, a name per line, or else the names of all objects,
    sorted. Corners are numbers of pixels from 1, as VOC's, so x1 is xmin - 1 and x2 is xmax.
    Boxes without area are dropped. Nothing is learned of `difficult` objects, and whether they are
    detected does not count. There are no masks.

    Args:
      root: Folder with JPEGImages/NAME.jpg, Annotations/NAME.xml and ImageSets/Main/SPLIT.txt
        (a NAME per line), or with a folder VOC2007 or VOC2012 that has them.
      train_split, eval_split: Names of splits; "train" and "val" if empty.

    Raises:
      DatasetError: Names the file, line or object that is missing or wrong.
    """
    base = find_root("voc_boxes", root, _CONTENT, "VOC2007", "VOC2012")
    splits = [_read_split(base, split) for split in (train_split or "train", eval_split or "val")]
    names = _class_names(base, splits)
    train, evaluation = (_labeled_images(split, names) for split in splits)
    return Opened(names, training_source(train, str(base)), InstanceSource(evaluation))


def _read_split(base: pathlib.Path, split: str) -> list[tuple[str, Size, list[_Object]]]:
    """The path, size and objects of each image."""
    file = base / "ImageSets" / "Main" / f"{split}.txt"
    if pathlib.PurePath(split).name != split or not file.is_file():
        present = sorted(path.stem for path in (base / "ImageSets" / "Main").glob("*.txt"))
        raise DatasetError(
            f"data split {split!r}: there is no file {file}; splits there: "
            f"{', '.join(present) or 'none'}."
        )
    return [_read_image(base, name, file) for name in _read_names(file)]


def _read_names(file: pathlib.Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise DatasetError(f"{file}: cannot be read ({reason}).") from error
    # Lists of one class have a second column.
    counts = collections.Counter(line.split()[0] for line in lines if line.strip())
    if not counts:
        raise DatasetError(f"{file} names no images; it holds a name per line.")
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise DatasetError(f"{file}: images named twice: {', '.join(repeated[:5])}.")
    return [*counts]


def _read_image(base: pathlib.Path, name: str, file: pathlib.Path):
    folder = base / "JPEGImages"
    suffixes = [suffix for suffix in IMAGE_SUFFIXES if (folder / f"{name}{suffix}").is_file()]
    path = find_image(folder, name + (suffixes or IMAGE_SUFFIXES)[0], str(file))
    return path, *read_voc_file(base / "Annotations" / f"{name}.xml")


def read_voc_file(path: pathlib.Path) -> tuple[Size, list[_Object]]:
    """Height and width of an image, and its objects that have an area.

    Raises:
      DatasetError: Says what is missing or wrong, in which object.
    """
    root = _read_xml(path)
    size = tuple(_number(root, f"size/{side}", f"{path}") for side in ("height", "width"))
    if min(size) < 1:
        raise DatasetError(f"{path}: size {size[1]:g}x{size[0]:g}; sides are at least 1.")
    objects = [
        _object(node, f"{path}: object {number}") for number, node in enumerate(root.iter("object"))
    ]
    # Of a tool's corners, a box of one pixel and one of none look alike.
    with_area = [row for row in objects if row[1][2] - row[1][0] > 1 < row[1][3] - row[1][1]]
    return (int(size[0]), int(size[1])), with_area


def _read_xml(path: pathlib.Path) -> ElementTree.Element:
    try:
        data = path.read_bytes()
        if b"<!ENTITY" in data:
            # A few lines of them unfold to gigabytes.
            raise DatasetError(f"{path} defines entities, which VOC's files do not have.")
        return ElementTree.fromstring(data)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}).") from error
    except ElementTree.ParseError as error:
        raise DatasetError(f"{path}: not a whole XML file ({error}).") from error


def _object(node: ElementTree.Element, where: str) -> _Object:
    name = (node.findtext("name") or "").strip()
    if not name:
        raise DatasetError(f"{where} has no name; each object has the name of its class.")
    x1, y1, x2, y2 = (_number(node, f"bndbox/{corner}", where) for corner in _CORNERS)
    return name, (x1 - 1, y1 - 1, x2, y2), (node.findtext("difficult") or "0").strip() == "1"


def _number(node: ElementTree.Element, name: str, where: str) -> float:
    text = node.findtext(name)
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        said = "is missing" if text is None else f"is {text!r:.40}"
        raise DatasetError(f"{where}: <{name.replace('/', '><')}> {said}; it is a finite number.")
    return value


def _class_names(base: pathlib.Path, splits: list) -> tuple[str, ...]:
    names = {row[0] for split in splits for _, _, objects in split for row in objects}
    if not (base / CLASSES_FILE).is_file():
        return tuple(sorted(names))
    known = read_classes(base / CLASSES_FILE).names
    unknown = sorted(names - {*known})
    if unknown:
        raise DatasetError(
            f"{base / CLASSES_FILE} lacks classes of objects in Annotations/: "
            f"{', '.join(unknown[:5])}; add a line for each."
        )
    return known


def _labeled_images(split: list, names: tuple[str, ...]) -> tuple[LabeledImage, ...]:
    labels = {name: label for label, name in enumerate(names)}
    images = []
    for number, (path, size, objects) in enumerate(split):
        rows = [
            (box, labels[name], (box[2] - box[0]) * (box[3] - box[1]), difficult, None)
            for name, box, difficult in objects
        ]
        images.append(LabeledImage(path, number, size, Instances.of_rows(rows)))
    return tuple(images)
