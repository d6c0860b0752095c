"""Sources, examples and batches for the tests of the streams."""

import collections
import itertools

import numpy as np

from cluenet_jax.data import Preprocessing, decode_image, train_batches
from tests.helpers.images import ImageSource

PREPROCESS = Preprocessing(8, 0, "bicubic", (0, 0, 0), (1, 1, 1))


def eval_example(record: dict) -> dict:
    image = decode_image(record["image"], record["name"])
    return {"image": PREPROCESS(image), "label": np.int32(record["label"])}


def plain_example(record: dict, rng: np.random.Generator) -> dict:
    return eval_example(record)


class CorruptImages(ImageSource):
    """A source of which some images, or all, are corrupt."""

    def __init__(self, count: int, corrupt: set[int] | None = None):
        super().__init__(count)
        self.corrupt = set(range(count)) if corrupt is None else corrupt

    def __getitem__(self, index: int) -> dict:
        record = super().__getitem__(index)
        return {**record, "image": b"nothing"} if index in self.corrupt else record


class CountedReads(CorruptImages):
    """Counts how often each image is read."""

    def __init__(self, count: int, corrupt: set[int] = frozenset()):
        super().__init__(count, corrupt)
        self.reads = collections.Counter()

    def __getitem__(self, index: int) -> dict:
        self.reads[index] += 1
        return super().__getitem__(index)


def take(count: int, *, examples: int = 20, source=None, example=plain_example, **options):
    """The first `count` batches."""
    settings = {"batch_size": 8, "seed": 3, **options}
    stream = train_batches(source or ImageSource(examples), example, **settings)
    # Batches of worker processes are in shared memory, which ends with them.
    batches = [
        {key: np.array(array) for key, array in batch.items()}
        for batch in itertools.islice(stream, count)
    ]
    stream.close()
    return batches


def assert_same(ours: list[dict], theirs: list[dict]) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])
