"""Batches of the examples of a source, read with Grain.

The order is a pure function of the seed: batch k of a run is the same rows in
the same order for any number of processes and workers. So the position to
resume from is the number of steps taken, and no other state needs saving.
"""

import dataclasses
import functools
import logging
import os
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import numpy as np

from cluenet_jax.data.order import (
    NUM_EXAMPLES,
    GroupedOrder,
    eval_order,
    indices_by_group,
    train_order,
)
from cluenet_jax.data.records import Batch, Example, Record, Source
from cluenet_jax.errors import UserError

# Threads that read in this process; above this, worker processes do better.
_MAX_THREADS = 16
# Other images tried in place of a corrupt one.
_ATTEMPTS = 8
# Key under which an example lists the corrupt images met on the way to it; removed from batches.
_CORRUPT = "_corrupt"
_LOG = logging.getLogger(__name__)


def train_batches(
    source: Source,
    train_example: Callable[[Record, np.random.Generator], Example],
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    num_workers: int = 0,
    num_repeats: int = 1,
    groups: Sequence[Hashable] | None = None,
    max_corrupt_fraction: float = 0.0,
    cache: bool = False,
    process_index: int = 0,
    process_count: int = 1,
) -> "TrainBatches":
    """Endless shuffled, augmented batches of this process.

    Each epoch has an order of its own and holds every example once
    (`num_repeats` times in a row); a batch may straddle two epochs, but not two groups.

    Args:
      source: Records, of which `image` and `name` are used in messages only.
      train_example: Function that decodes and augments a record; a picklable one if there are
        workers. A `UserError` that it raises means that the record is corrupt.
      batch_size: Examples per batch over all processes.
      seed: Seed of order and augmentation.
      start_step: Number of batches to leave out, to resume an interrupted run.
      num_workers: 0: threads of this process; n: n worker processes; -1: one per core.
      num_repeats: Times that an example is repeated in a row (repeated augmentation).
      groups: Of each record; batches are of one group, such as that of a shape. A group's last
        batch of an epoch is filled up with others of the group. None where all are of one.
      max_corrupt_fraction: Fraction of the images that may be corrupt. Each is logged and
        counted, and another image takes its place, the same one whenever it is read.
      cache: Whether examples stay in this process's memory once they are read, for small sets.
        Changes no batch, but `train_example` must be free of randomness and `num_workers` 0.
      process_index, process_count: This process takes the rows
        `process_index * b .. (process_index + 1) * b` of each batch, b = batch_size /
        process_count.

    Returns:
      An iterator over batches of b rows, `valid` in all of them.

    Raises:
      UserError: The batch does not divide over the processes, there are no examples, or, while
        reading, more than `max_corrupt_fraction` of the images are corrupt.
    """
    import grain  # Takes a second to import.

    rows = _rows_per_process(batch_size, process_count)
    if not len(source):
        raise UserError("There are no examples to train on.")
    if cache and num_workers:
        raise UserError(
            f"num_workers={num_workers}: a cache is in the memory of one process; use 0 workers."
        )
    read = _Read(source, train_example)
    if cache:
        read = _computed_once(read, {})
    may_skip = int(max_corrupt_fraction * len(source)) > 0
    if groups is None:
        members, order = (range(len(source)),), train_order(len(source), seed)
    else:
        members = tuple(indices_by_group(groups))
        order = GroupedOrder(members, batch_size, seed)
    example_at = _ReadOrReplace(read, order, members, num_repeats, may_skip)
    # Augmented before the rows are distributed, so that draws depend on the global
    # position alone; lazily, so that each process works on its own rows only.
    stream = (
        grain.MapDataset.range(NUM_EXAMPLES)
        .seed(seed)
        .random_map(example_at)
        .batch(rows)
        .slice(slice(start_step * process_count + process_index, None, process_count))
    )
    batches = _start_reading(stream, num_workers)
    return TrainBatches(batches, source, read, max_corrupt_fraction)


class TrainBatches:
    """Endless batches; counts the images that had to be skipped.

    Attributes:
      corrupt: Indices, in the source, of the corrupt images that this process met.
    """

    def __init__(
        self,
        stream: Any,
        source: Source,
        read: Callable[[int, np.random.Generator], Example | UserError],
        max_corrupt_fraction: float,
    ):
        self.corrupt: set[int] = set()
        self._stream = stream
        self._source = source
        self._read = read
        self._max_corrupt_fraction = max_corrupt_fraction

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        try:
            batch = next(self._stream)
        except RuntimeError as error:
            if "exit code" not in str(error):
                raise
            # Grain's words for a worker that was killed, mostly when memory was short.
            raise UserError(
                f"A process that reads images has died ({error}). Was there too little memory? "
                "Fewer --config.data.num_workers need less; the same command resumes from the "
                "last checkpoint."
            ) from error
        indices = batch.pop(_CORRUPT)
        for index in sorted({*indices[indices >= 0].tolist()} - self.corrupt):
            self._skip(index)
        return batch

    def close(self) -> None:
        """Ends the threads or processes that read."""
        self._stream.close()

    def _skip(self, index: int) -> None:
        self.corrupt.add(index)
        allowed = int(self._max_corrupt_fraction * len(self._source))
        reason = self._why_corrupt(index)
        if len(self.corrupt) > allowed:
            raise UserError(
                f"{len(self.corrupt)} of {len(self._source)} training images are corrupt, more "
                f"than data.max_corrupt_fraction={self._max_corrupt_fraction} allows ({allowed}). "
                f"The last one: {reason} Fix or remove them, or allow more."
            )
        _LOG.warning("SKIPPED a corrupt image, number %d of at most %d: %s",
                     len(self.corrupt), allowed, reason)  # fmt: skip

    def _why_corrupt(self, index: int) -> str:
        # Batches carry numbers only, so the message comes from reading it again.
        example = self._read(index, np.random.default_rng(0))
        if isinstance(example, UserError):
            return str(example)
        name = self._source[index]["name"]
        return f"{name}: could not be read a moment ago, but can be now."


def eval_batches(
    source: Source,
    eval_example: Callable[[Record], Example],
    *,
    batch_size: int,
    shapes: Sequence[Hashable] | None = None,
    cache: dict[int, Example] | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Every example once, those of a shape together and in order; each shape's last batch padded.

    Args:
      source: Records.
      eval_example: Function that decodes a record.
      batch_size: Examples per batch over all processes, which all get the same number of batches.
      shapes: For each record what tells apart those whose examples differ in shape; None where
        none do.
      cache: Examples by index that earlier calls have read, to which this call adds; None reads
        all examples.
      process_index, process_count: As in `train_batches`.

    Yields:
      Batches of batch_size / process_count rows; padding is zeros, and `valid` is False there.

    Raises:
      UserError: The batch does not divide over the processes, or an image is corrupt.
    """
    import grain

    rows = _rows_per_process(batch_size, process_count)

    def read(index: int) -> Example:
        return eval_example(source[index])

    if cache is not None:
        read = _computed_once(read, cache)

    @functools.cache
    def padding(index: int) -> Example:
        return {key: np.zeros_like(array) for key, array in read(index).items()}

    order = eval_order(shapes or [None] * len(source), batch_size)

    def example_at(position: int) -> Example:
        index, valid = order[position]
        return {**(read(index) if valid else padding(index)), "valid": np.bool_(valid)}

    stream = (
        grain.MapDataset.range(len(order))
        .map(example_at)
        .batch(rows)
        .slice(slice(process_index, None, process_count))
    )
    return _start_reading(stream, num_workers=0)


@dataclasses.dataclass(frozen=True)
class _Read:
    """Reads the example of an index; picklable, so that worker processes can receive it."""

    source: Source
    train_example: Callable[[Record, np.random.Generator], Example]

    def __call__(self, index: int, rng: np.random.Generator) -> Example | UserError:
        try:
            return self.train_example(self.source[index], rng)
        except UserError as error:
            return error


@dataclasses.dataclass(frozen=True)
class _ReadOrReplace:
    """Reads the example at a position of `order`, or another one in place of a corrupt one.

    Which one of its group that is depends on the index alone. `_CORRUPT` holds the indices of the
    examples that could not be read, -1 where there are none.
    """

    read: Callable[[int, np.random.Generator], Example | UserError]
    order: Sequence[int]
    groups: tuple[Sequence[int], ...]
    num_repeats: int
    may_skip: bool

    def __call__(self, position: int, rng: np.random.Generator) -> Example:
        index = int(self.order[position // self.num_repeats])
        corrupt = np.full(_ATTEMPTS, -1, np.int64)
        for attempt in range(_ATTEMPTS):
            example = self.read(index, rng)
            if not isinstance(example, UserError):
                return {**example, "valid": np.bool_(True), _CORRUPT: corrupt}
            if not self.may_skip:
                raise example
            corrupt[attempt] = index
            members = self._group_of(index)
            index = int(members[np.random.default_rng((index, attempt)).integers(len(members))])
        raise UserError(
            f"{_ATTEMPTS} images in a row are corrupt; the last one: {example}"
        ) from example

    def _group_of(self, index: int) -> Sequence[int]:
        return next(members for members in self.groups if index in members)


def _computed_once(compute: Callable[..., Any], results: dict[int, Any]) -> Callable[..., Any]:
    """`compute(index, ...)`, whose results are kept, computed once however many threads ask."""
    locks: dict[int, threading.Lock] = {}

    def look_up(index: int, *args: Any) -> Any:
        if index not in results:
            with locks.setdefault(index, threading.Lock()):
                if index not in results:
                    results[index] = compute(index, *args)
        return results[index]

    return look_up


def _start_reading(stream: Any, num_workers: int) -> Iterator[Batch]:
    """Iterates over a Grain dataset of batches with workers, or with this process's threads."""
    import grain

    if num_workers == -1:
        num_workers = os.cpu_count()
    if num_workers:
        _parse_flags()
        options = grain.MultiprocessingOptions(num_workers=num_workers)
        return iter(stream.to_iter_dataset(_read_options(1)).mp_prefetch(options))
    return iter(stream.to_iter_dataset(_read_options(os.cpu_count())))


def _read_options(num_threads: int):
    """Reads one batch ahead per thread.

    Grain's default is 500 elements ahead, and an element is a whole batch here:
    19 GB for batches of 256 images of 224 pixels, in every worker.
    """
    import grain

    num_threads = min(num_threads, _MAX_THREADS)
    return grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=num_threads)


def _rows_per_process(batch_size: int, process_count: int) -> int:
    if batch_size % process_count:
        raise UserError(f"A batch of {batch_size} does not divide over {process_count} processes.")
    return batch_size // process_count


def _parse_flags() -> None:
    """Grain's workers read absl's flags, which only `app.run` parses."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
