"""Images that tools are given: files and folders, or a model's own evaluation set."""

import itertools
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

from cluenet_jax.checkpoints.load import TrainedModel
from cluenet_jax.data import Preprocessing, decode_image, list_images, read_image_file
from cluenet_jax.errors import ImageError

T = TypeVar("T")


def read_images(
    paths: Iterable[str], preprocessing: Preprocessing, on_error: Callable[[str], None]
) -> Iterator[tuple[str, np.ndarray]]:
    """Decodes image files as a model was evaluated on them.

    Args:
      paths: Files and folders (searched through).
      preprocessing: The model's.
      on_error: Called with the message for each image that cannot be read.

    Yields:
      The file's name and uint8 `[S, S, 3]`.
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
                yield file, preprocessing(image)


def eval_images(
    trained: TrainedModel, count: int | None = None
) -> Iterator[tuple[str, np.ndarray, str | None]]:
    """Images of the evaluation set of the dataset that a model was trained on.

    Args:
      trained: The model.
      count: How many, evenly spaced over the set; None for all.

    Yields:
      A name, uint8 `[S, S, 3]`, the name of the true target or None.
    """
    dataset = trained.dataset()
    total = len(dataset.eval)
    for index in np.linspace(0, total - 1, min(count or total, total)).astype(int):
        record = dataset.eval[int(index)]
        image = trained.preprocessing(decode_image(record["image"], record["name"]))
        yield f"{dataset.info.name}_{index}", image, trained.task.target_of_record(record)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items of a stream; the last may be shorter."""
    stream = iter(items)
    while batch := list(itertools.islice(stream, size)):
        yield batch


def new_path(out: pathlib.Path, name: str, taken: set[str]) -> pathlib.Path:
    """A path in `out` named as an image, numbered where another image has that name."""
    stem = re.sub(r"[^\w.-]", "_", pathlib.Path(name).stem)
    path, number = stem, 2
    while path in taken:
        path, number = f"{stem}_{number}", number + 1
    taken.add(path)
    return out / path
