"""Names of parameters in published PyTorch checkpoints, and how their axes turn.

PyTorch keeps `[out, in]` matrices and `[out, in, height, width]` kernels, Flax
`[in, out]` and `[height, width, in, out]`. A kind is a pair of exact inverses.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np


class Kind(NamedTuple):
    """How the axes of an array turn, from PyTorch to Flax and back."""

    to_flax: Callable[[np.ndarray], np.ndarray]
    to_torch: Callable[[np.ndarray], np.ndarray]


def _same(a: np.ndarray) -> np.ndarray:
    return a


SAME = Kind(_same, _same)
# [out, in] <-> [in, out]
LINEAR = Kind(np.transpose, np.transpose)
# [out, in, 1, 1] <-> [in, out]
CONV1X1 = Kind(lambda a: a[:, :, 0, 0].T, lambda a: a.T[:, :, None, None])
# [out, in, height, width] <-> [height, width, in, out]
CONV = Kind(lambda a: a.transpose(2, 3, 1, 0), lambda a: a.transpose(3, 2, 0, 1))
# [in, out, height, width] <-> [height, width, in, out]
TRANSPOSED_CONV = Kind(lambda a: a.transpose(2, 3, 0, 1), lambda a: a.transpose(2, 3, 0, 1))
# [channels, 1, height, width] <-> [height, width, channels]
DEPTHWISE = Kind(lambda a: a[:, 0].transpose(1, 2, 0), lambda a: a.transpose(2, 0, 1)[:, None])
# int64 <-> int32
COUNT = Kind(lambda a: a.astype(np.int32), lambda a: a.astype(np.int64))
# [1] <-> []
SCALAR = Kind(lambda a: a[0], lambda a: a[None])
# [heads, out, in] <-> [heads, in, out]
PER_HEAD = Kind(lambda a: a.transpose(0, 2, 1), lambda a: a.transpose(0, 2, 1))
# [heads, 1, in] <-> [heads, in]
PER_HEAD_ROW = Kind(lambda a: a[:, 0], lambda a: a[:, None])
# [heads, 1] <-> [heads]
PER_HEAD_SCALAR = Kind(lambda a: a[:, 0], lambda a: a[:, None])


def flattened(size: int) -> Kind:
    """A linear map of a flattened map of `size` x `size` pixels.

    PyTorch flattens (channel, y, x), Flax (y, x, channel):
    `[out, in * size * size]` <-> `[size * size * in, out]`.
    """

    def to_flax(a: np.ndarray) -> np.ndarray:
        return a.reshape(len(a), -1, size, size).transpose(2, 3, 1, 0).reshape(-1, len(a))

    def to_torch(a: np.ndarray) -> np.ndarray:
        out = a.shape[1]
        return a.reshape(size, size, -1, out).transpose(3, 2, 0, 1).reshape(out, -1)

    return Kind(to_flax, to_torch)


class Entry(NamedTuple):
    """One array: its PyTorch name, its path in the Flax collection, its kind."""

    torch: str
    flax: str
    kind: Kind
    collection: str = "params"


def layer(torch: str, flax: str, kind: Kind, collection: str = "params") -> Iterator[Entry]:
    """A linear map or convolution with its bias."""
    yield Entry(f"{torch}.weight", f"{flax}/kernel", kind, collection)
    yield Entry(f"{torch}.bias", f"{flax}/bias", SAME, collection)


def norm(torch: str, flax: str) -> Iterator[Entry]:
    """The scale and bias of a LayerNorm or GroupNorm."""
    yield Entry(f"{torch}.weight", f"{flax}/scale", SAME)
    yield Entry(f"{torch}.bias", f"{flax}/bias", SAME)


def batch_norm(torch: str, flax: str) -> Iterator[Entry]:
    """The scale and bias of a BatchNorm, and what it keeps of its batches."""
    yield from norm(torch, flax)
    yield Entry(f"{torch}.running_mean", f"{flax}/mean", SAME, "batch_stats")
    yield Entry(f"{torch}.running_var", f"{flax}/var", SAME, "batch_stats")
    yield Entry(f"{torch}.num_batches_tracked", f"{flax}/num_batches", COUNT, "batch_stats")


def below(entries: Iterable[Entry], torch: str, flax: str) -> Iterator[Entry]:
    """The entries of a part of a model, with prefixes before both names."""
    for entry in entries:
        yield entry._replace(torch=torch + entry.torch, flax=f"{flax}/{entry.flax}")
