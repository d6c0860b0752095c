"""Folders on disks and in buckets (`gs://…`)."""

import os

from etils import epath


def is_bucket(path: str | os.PathLike) -> bool:
    """Whether `path` is an address of a bucket: no locks, no appending, no current folder."""
    return "://" in str(path)


def absolute(path: str | os.PathLike) -> epath.Path:
    """`path` from the root; `epath`'s own `absolute` takes buckets for relative paths."""
    path = epath.Path(path)
    return path if is_bucket(path) else path.absolute()
