"""Folders on disks and in buckets (`gs://…`)."""

import importlib.util
import os

from etils import epath

from cluenet_jax.errors import UserError


def is_bucket(path: str | os.PathLike) -> bool:
    """Whether `path` is an address of a bucket: no locks, no appending, no current folder."""
    return "://" in str(path)


def absolute(path: str | os.PathLike) -> epath.Path:
    """`path` from the root; `epath`'s own `absolute` takes buckets for relative paths.

    Raises:
      UserError: It is in a bucket, and the package that reads those is not installed.
    """
    if not is_bucket(path):
        return epath.Path(path).absolute()
    if str(path).startswith("gs://") and not importlib.util.find_spec("gcsfs"):
        raise UserError(f"{path} is in a bucket: pip install 'cluenet-jax[gcs]' (gcsfs).")
    return epath.Path(path)
