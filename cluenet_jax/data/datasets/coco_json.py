"""The user's own instances: folders of images and COCO JSON files."""

import pathlib

from cluenet_jax.data.datasets.coco_file import CocoFile, read_coco_file
from cluenet_jax.data.datasets.info import Opened
from cluenet_jax.data.datasets.instance_source import (
    InstanceSource,
    LabeledImage,
    find_image,
    training_source,
)
from cluenet_jax.data.image_files import find_root
from cluenet_jax.data.instances import Instances
from cluenet_jax.errors import DatasetError

# Where the annotations and the images of a split are looked for.
ANNOTATIONS = ("annotations/instances_{}.json", "instances_{}.json", "{}.json")
FOLDERS = ("{}", "images/{}", "images")
CONTENT = f"the images in ROOT/SPLIT/ and ROOT/{ANNOTATIONS[0].format('SPLIT')}"


def open_coco_json(root: str, train_split: str = "", eval_split: str = "") -> Opened:
    """Reads both files of annotations, and checks that all images are there.

    Args:
      root: A folder.
      train_split, eval_split: A name, of which the first of `ANNOTATIONS` and the first of
        `FOLDERS` that `root` has are taken; or `FILE.json:FOLDER`, both relative to `root`.
        "train" and "val" if empty.

    Raises:
      DatasetError: Names the file, folder or entry that is missing or wrong.
    """
    base = find_root("coco_json", root, CONTENT)
    sources = [find_split(base, split) for split in (train_split or "train", eval_split or "val")]
    return open_files(*sources)


def find_split(
    base: pathlib.Path, split: str, annotations: tuple[str, ...] = ANNOTATIONS
) -> tuple[pathlib.Path, pathlib.Path]:
    """The file of annotations and the folder of images of a split; see `open_coco_json`."""
    if ".json:" in split:
        file, _, folder = split.rpartition(":")
        files, folders = [base / file], [base / folder]
    else:
        files = [base / pattern.format(split) for pattern in annotations]
        folders = [base / pattern.format(split) for pattern in FOLDERS]
    for paths in (files, folders):
        if any(not path.resolve().is_relative_to(base.resolve()) for path in paths):
            raise DatasetError(f"data split {split!r} leads out of {base}.")
    found_file = next((path for path in files if path.is_file()), None)
    found_folder = next((path for path in folders if path.is_dir()), None)
    if found_file is None or found_folder is None:
        kind, paths = ("folder", folders) if found_file else ("file", files)
        raise DatasetError(
            f"data split {split!r}: there is no {kind} {' or '.join(map(str, paths))}; a split is "
            "a name, or FILE.json:FOLDER, both relative to data.dir."
        )
    return found_file, found_folder


def open_files(
    train: tuple[pathlib.Path, pathlib.Path], evaluation: tuple[pathlib.Path, pathlib.Path]
) -> Opened:
    """Both splits, each of a file of annotations and a folder of images.

    Raises:
      DatasetError: As `read_coco_file`; or the files differ in their categories.
    """
    files = [read_coco_file(file) for file, _ in (train, evaluation)]
    _check_same_categories(files, (train[0], evaluation[0]))
    images = [
        _labeled_images(content, *paths)
        for content, paths in zip(files, (train, evaluation), strict=True)
    ]
    names = tuple(files[0].categories.values())
    return Opened(names, training_source(images[0], str(train[0])), InstanceSource(images[1]))


def _check_same_categories(files: list[CocoFile], paths: tuple[pathlib.Path, ...]) -> None:
    first, second = (set(content.categories.items()) for content in files)
    if first != second:
        alone = sorted(first ^ second)[:5]
        raise DatasetError(
            f"{paths[0]} and {paths[1]} differ in their categories (id, name): "
            f"{', '.join(map(str, alone))}; they must have the same."
        )


def _labeled_images(
    content: CocoFile, file: pathlib.Path, folder: pathlib.Path
) -> tuple[LabeledImage, ...]:
    if not content.images:
        raise DatasetError(f"{file} has no images.")
    nothing = Instances.of_rows([])
    return tuple(
        LabeledImage(
            find_image(folder, image.file_name, f"{file}: image {key}"),
            key,
            image.size,
            content.instances.get(key, nothing),
        )
        for key, image in content.images.items()
    )
