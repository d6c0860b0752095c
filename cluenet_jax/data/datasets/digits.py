"""The 1,797 scanned digits that come with scikit-learn too, in memory; no download.

`digits.npz` holds what `sklearn.datasets.load_digits` gives, and a split stratified by
`train_test_split`: importing scikit-learn takes longer than all the rest of reading them.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits,
UCI Machine Learning Repository, 1998 (its test part).
"""

import dataclasses
import importlib.resources
import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from cluenet_jax.data.records import Record
from cluenet_jax.errors import DatasetError

CLASS_NAMES = tuple("0123456789")
SIDE = 32


@dataclasses.dataclass(frozen=True)
class MemorySource:
    """Records in memory."""

    records: tuple[Record, ...]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        return self.records[index]


def open_digits(
    data_dir: str = "", train_split: str = "", eval_split: str = ""
) -> tuple[tuple[str, ...], MemorySource, MemorySource]:
    """8x8 gray scans enlarged to 32x32 RGB; 1,437 train and 360 test, stratified.

    Args:
      data_dir: Not used.
      train_split, eval_split: TFDS split expressions; "train" and "test" if empty.

    Returns:
      The class names, the training and the eval source.

    Raises:
      DatasetError: There is no such split.
    """
    scans, labels, splits = read_scans()

    def open_split(split: str) -> MemorySource:
        indices = select_split("digits", splits, split)
        return MemorySource(
            tuple(
                {
                    "image": _encode(scans[index]),
                    "label": int(labels[index]),
                    "name": f"digits {split}[{number}]",
                }
                for number, index in enumerate(indices)
            )
        )

    return CLASS_NAMES, open_split(train_split or "train"), open_split(eval_split or "test")


def read_scans() -> tuple[np.ndarray, np.ndarray, dict[str, list[int]]]:
    """The scans, uint8 `[1797, 8, 8]` in 0 .. 16; their digits, uint8; the indices of both splits.

    Their order is the one that TFDS gives the examples of a split, which published runs were
    trained in.
    """
    file = importlib.resources.files("cluenet_jax.data.datasets").joinpath("digits.npz")
    with file.open("rb") as opened, np.load(opened) as arrays:
        splits = {split: arrays[split].tolist() for split in ("train", "test")}
        return arrays["scans"], arrays["digits"], splits


def _encode(scan: np.ndarray) -> bytes:
    # Values are 0 .. 16.
    gray = Image.fromarray(np.round(scan * (255 / 16)).astype(np.uint8))
    file = io.BytesIO()
    gray.resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert("RGB").save(file, "PNG")
    return file.getvalue()


def select_split(dataset: str, splits: Mapping[str, Sequence[int]], split: str) -> Sequence[int]:
    """The indices of a TFDS split expression, such as "train" or "train[:10%]".

    Raises:
      DatasetError: There is no such split, or it is empty; names the dataset and its splits.
    """
    if split in splits:
        return splits[split]
    import tensorflow_datasets as tfds

    infos = {
        name: tfds.core.SplitInfo(name=name, shard_lengths=[len(indices)], num_bytes=0)
        for name, indices in splits.items()
    }
    try:
        parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
    except (ValueError, KeyError) as error:
        raise DatasetError(
            f"{dataset} has no split {split!r}; it has {', '.join(splits)}, and parts such as "
            f"'train[:10%]'. ({error})"
        ) from error
    indices = [i for part in parts for i in splits[part.splitname][part.from_ : part.to]]
    if not indices:
        raise DatasetError(f"The split {split!r} of {dataset} is empty.")
    return indices
