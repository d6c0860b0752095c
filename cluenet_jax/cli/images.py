"""Images that tools are given: files and folders, or a model's own evaluation set."""

import pathlib
import re
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from PIL import Image

from cluenet_jax.checkpoints.load import TrainedModel
from cluenet_jax.data import Record, decode_image, list_images, read_image_file
from cluenet_jax.errors import ImageError
from cluenet_jax.progress import bar


def read_images(
    paths: Iterable[str], on_error: Callable[[str], None]
) -> Iterator[tuple[str, Image.Image]]:
    """Decodes image files.

    Args:
      paths: Files and folders (searched through).
      on_error: Called with the message for each image that cannot be read.

    Yields:
      The file's name and the image.
    """
    for path in paths:
        files = [path]
        if pathlib.Path(path).is_dir():
            files = list_images(path)
            if not files:
                on_error(f"{path}: no images in this folder.")
        for file in files:
            try:
                image = decode_image(read_image_file(file), file)
            except ImageError as error:
                on_error(str(error))
            else:
                yield file, image


def eval_records(trained: TrainedModel, count: int | None = None) -> Iterator[tuple[str, Record]]:
    """Records of the evaluation set of the dataset that a model was trained on.

    Args:
      trained: The model.
      count: How many, evenly spaced over the set; None for all.

    Yields:
      A name and the record.
    """
    dataset = trained.dataset()
    total = len(dataset.eval)
    indices = np.linspace(0, total - 1, min(count or total, total)).astype(int)
    for index in bar(indices, "Images", len(indices)):
        yield f"{dataset.info.name}_{index}", dataset.eval[int(index)]


def new_path(out: pathlib.Path, name: str, taken: set[str]) -> pathlib.Path:
    """A path in `out` named as an image, numbered where another image has that name."""
    stem = re.sub(r"[^\w.-]", "_", pathlib.Path(name).stem)
    path, number = stem, 2
    while path in taken:
        path, number = f"{stem}_{number}", number + 1
    taken.add(path)
    return out / path
