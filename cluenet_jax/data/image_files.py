"""Image files in folders: listing and reading."""

import os
import pathlib

from PIL import Image

from cluenet_jax.data.decode import FORMATS
from cluenet_jax.errors import DatasetError, ImageError


def find_root(dataset: str, root: str, content: str, *published: str) -> pathlib.Path:
    """The folder that holds a dataset.

    Args:
      dataset: Its name, for messages.
      root: What `data.dir` says.
      content: What should be there, for messages.
      *published: Names of folders; the first that `root` has is taken instead of it.

    Raises:
      DatasetError: There is no such folder; says what should be there.
    """
    if not root:
        raise DatasetError(f"{dataset} needs --config.data.dir=ROOT, with {content}.")
    base = pathlib.Path(root).expanduser()
    if not base.is_dir():
        raise DatasetError(f"data.dir={root}: there is no such folder.")
    folders = (base / name for name in published)
    return next((folder for folder in folders if folder.is_dir()), base)


def list_images(folder: str | pathlib.Path) -> list[str]:
    """All image files in a folder and its subfolders, by their endings, sorted."""
    extensions = Image.registered_extensions().items()
    suffixes = {suffix for suffix, name in extensions if name in FORMATS}
    images = []
    # A link to a folder is not entered: a loop would list its images many times.
    for parent, _, names in os.walk(folder):
        paths = [os.path.join(parent, name) for name in names]
        images += [path for path in paths if os.path.splitext(path)[1].lower() in suffixes]
    return sorted(images)


def read_image_file(path: str | pathlib.Path) -> bytes:
    """The bytes of an image file, still encoded.

    Raises:
      ImageError: Names the file, and why it cannot be read.
    """
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror}).") from error


def split_folder(base: pathlib.Path, names: tuple[str, ...]) -> pathlib.Path:
    """The first of the folders `names` that `base` has.

    Raises:
      DatasetError: A name is not one of a folder, or there is none of them; lists what there is.
    """
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


def check_inside(path: pathlib.Path, root: pathlib.Path) -> None:
    """Raises a `DatasetError` for a path that a link leads out of `root`, a resolved one."""
    if not path.resolve().is_relative_to(root):
        raise DatasetError(f"{path} is a link out of {root}; put the images themselves there.")


def listed_image(folder: pathlib.Path, name: str) -> pathlib.Path:
    """The path of an image that a dataset's list names; a list cannot name a file elsewhere.

    Raises:
      DatasetError: The image is missing or its name leaves the folder.
    """
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DatasetError(f"{name!r} is listed, but is not inside {folder}.")
    if not path.is_file():
        raise DatasetError(f"{path} is listed, but missing.")
    return path
