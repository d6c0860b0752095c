"""From a source of pictures to batches, with Grain.

The order is a pure function of the seed: batch k of a run is the same rows in
the same order for any number of processes and workers. So the position to go
on from is the number of steps taken, and nothing else needs saving.
"""

import dataclasses
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

import ml_collections
import numpy as np
from PIL import Image

from cluenet_jax.data.decode import decode_image
from cluenet_jax.data.host_augment import (
    color_jitter,
    rand_augment,
    random_resized_crop,
    resize,
    resize_and_center_crop,
)
from cluenet_jax.data.sources import Source, normalization
from cluenet_jax.errors import UserError

# Examples after which a stream ends: never, in practice. Grain's endless `repeat()`
# overflows when a process takes one row of each batch.
_EXAMPLES = 2**50
# Threads that read in this process; above this, worker processes do better.
_MAX_THREADS = 16
# Other pictures tried in place of a broken one.
_TRIES = 8
# Pictures of a set that is read whole.
_READ_AT_ONCE = 64
_LOG = logging.getLogger(__name__)

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class _PrepareForTraining:
    """Decodes and augments a record; a class so that worker processes can receive it."""

    image_size: int
    interpolation: str
    area: tuple[float, float]
    jitter: tuple[float, float, float, float]
    rand_augment: tuple[float, float]
    fill: tuple[int, int, int]

    def __call__(self, record: dict, rng: np.random.Generator) -> dict:
        image = decode_image(record["image"], record["name"])
        if any(self.area):
            image = random_resized_crop(
                image, self.image_size, rng, self.area, interpolation=self.interpolation
            )
        else:
            image = resize(image, self.image_size, self.interpolation)
        if any(self.jitter):
            image = color_jitter(image, rng, *self.jitter)
        if self.rand_augment[0]:
            image = rand_augment(image, rng, *self.rand_augment, self.fill)
        return {"image": np.asarray(image), "label": np.int32(record["label"])}


@dataclasses.dataclass(frozen=True)
class _Read:
    """Reads the example at a position of `order`, or another one in place of a broken one.

    Which one that is depends on the position in the data alone. `broken` holds the numbers of
    the examples that could not be read, -1 where there are none.
    """

    source: Source
    order: Sequence[int]
    repeats: int
    prepare: _PrepareForTraining
    may_skip: bool

    def __call__(self, position: int, rng: np.random.Generator) -> dict:
        index = int(self.order[position // self.repeats])
        broken = np.full(_TRIES, -1, np.int64)
        for attempt in range(_TRIES):
            try:
                return {**self.prepare(self.source[index], rng), "broken": broken}
            except UserError as error:
                if not self.may_skip:
                    raise
                broken[attempt] = index
                last = error
            index = int(np.random.default_rng((index, attempt)).integers(len(self.source)))
        raise UserError(f"{_TRIES} pictures in a row are broken; the last one: {last}") from last


class TrainBatches:
    """Endless batches; counts the pictures that had to be skipped.

    Attributes:
      broken: Numbers, in the source, of the broken pictures met by this process.
    """

    def __init__(self, stream: Any, source: Source, max_broken_share: float):
        self.broken: set[int] = set()
        self._stream = stream
        self._source = source
        self._share = max_broken_share

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        try:
            batch = next(self._stream)
        except RuntimeError as error:
            if "exit code" not in str(error):
                raise
            # Grain's words for a worker that was killed, mostly for want of memory.
            raise UserError(
                f"A process that reads pictures has died ({error}). Was there too little memory? "
                "Fewer --config.data.workers need less; the same command goes on from the last "
                "checkpoint."
            ) from error
        met = batch.pop("broken")
        for index in sorted({*met[met >= 0].tolist()} - self.broken):
            self._skip(index)
        return batch

    def close(self) -> None:
        """Ends the threads or processes that read."""
        self._stream.close()

    def _skip(self, index: int) -> None:
        self.broken.add(index)
        allowed = int(self._share * len(self._source))
        reason = _why_broken(self._source, index)
        if len(self.broken) > allowed:
            raise UserError(
                f"{len(self.broken)} of {len(self._source)} training pictures are broken, more "
                f"than data.max_broken_share={self._share} allows ({allowed}). The last one: "
                f"{reason} Mend or remove them, or allow more."
            )
        _LOG.warning("SKIPPED a broken picture, number %d of at most %d: %s",
                     len(self.broken), allowed, reason)  # fmt: skip


def _why_broken(source: Source, index: int) -> str:
    try:
        record = source[index]
        decode_image(record["image"], record["name"])
    except UserError as error:
        return str(error)
    return f"{record['name']}: could not be read a moment ago, but can be now."


def prepare_for_test(
    image: Image.Image, image_size: int, test_resize: int, interpolation: str
) -> np.ndarray:
    """A picture as networks see it in a test.

    Args:
      image: RGB, any size.
      image_size, test_resize, interpolation: As in `config.data`.

    Returns:
      uint8 `[image_size, image_size, 3]`.
    """
    if test_resize:
        image = resize_and_center_crop(image, test_resize, image_size, interpolation)
    return np.asarray(resize(image, image_size, interpolation))


def train_batches(
    source: Source,
    data: ml_collections.ConfigDict,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> TrainBatches:
    """Endless shuffled, augmented batches of this process.

    Each pass over the data has an order of its own and holds every example
    once (`data.repeats` times in a row); a batch may straddle two passes.

    Args:
      source: Records of `image` (bytes), `label` and `name`.
      data: `config.data`.
      batch_size: Over all processes.
      seed: Of order and augmentation.
      start_step: Batches to leave out: where an interrupted run goes on.
      process_index, process_count: This process takes the rows
        `process_index * b .. (process_index + 1) * b` of each batch.

    Returns:
      An iterator over `image` uint8 `[b, S, S, 3]` and `label` int32 `[b]`,
      b = batch_size / process_count. A picture that cannot be read is named, counted, and
      another one takes its place.

    Raises:
      UserError: The batch does not divide over the processes, there are no examples, or, while
        reading, more than `data.max_broken_share` of the pictures are broken.
    """
    import grain  # Takes a second to import.

    rows = _rows_per_process(batch_size, process_count)
    _require_examples(source)
    # Augmented before the rows are dealt out, so that draws depend on the global
    # position alone; lazily, so that each process works on its own rows only.
    stream = (
        grain.MapDataset.range(_EXAMPLES)
        .seed(seed)
        .random_map(_reader(source, data, _order(len(source), seed)))
        .batch(rows)
        .slice(slice(start_step * process_count + process_index, None, process_count))
    )
    workers = os.cpu_count() if data.workers == -1 else data.workers
    if workers:
        _parse_flags()
        options = grain.MultiprocessingOptions(num_workers=workers)
        batches = stream.to_iter_dataset(_read_options(1)).mp_prefetch(options)
    else:
        batches = stream.to_iter_dataset(_read_options(os.cpu_count()))
    return TrainBatches(iter(batches), source, data.max_broken_share)


def read_training_set(source: Source, data: ml_collections.ConfigDict) -> tuple[Batch, set[int]]:
    """Every training example once, in order, as `train_batches` gives it.

    Args:
      source, data: As in `train_batches`; what is augmented on the host must be off.

    Returns:
      `image` uint8 `[N, S, S, 3]` and `label` int32 `[N]`, another example in place of each
      broken one, and the numbers of those.

    Raises:
      UserError: There are no examples, or too many are broken.
    """
    import grain

    _require_examples(source)
    stream = (
        grain.MapDataset.range(len(source))
        .seed(0)
        .random_map(_reader(source, data, range(len(source)), repeats=1))
        .batch(_READ_AT_ONCE)
        .to_iter_dataset(_read_options(os.cpu_count()))
    )
    batches = TrainBatches(iter(stream), source, data.max_broken_share)
    return _joined(batches), batches.broken


def train_indices(
    count: int,
    data: ml_collections.ConfigDict,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[np.ndarray]:
    """Which examples stand in the batches of `train_batches`.

    Args:
      count: Examples of the source.
      data, batch_size, seed, start_step, process_index, process_count: As in `train_batches`.

    Yields:
      int32 `[b]`, b = batch_size / process_count.
    """
    rows = _rows_per_process(batch_size, process_count)
    order = _order(count, seed)
    first = start_step * batch_size + process_index * rows
    while True:
        positions = range(first, first + rows)
        yield np.array([order[position // data.repeats] for position in positions], np.int32)
        first += batch_size


def read_test_set(source: Source, data: ml_collections.ConfigDict, *, batch_size: int) -> Batch:
    """All batches of `eval_batches` in a row, padding and all."""
    return _joined(eval_batches(source, data, batch_size=batch_size))


def _joined(batches: Iterator[Batch]) -> Batch:
    parts = list(batches)
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _require_examples(source: Source) -> None:
    if not len(source):
        raise UserError("There are no examples to train on.")


def _order(count: int, seed: int) -> Sequence[int]:
    """The examples' numbers, each pass in an order of its own."""
    import grain

    return grain.MapDataset.range(count).seed(seed).shuffle().repeat(-(-_EXAMPLES // count))


def _reader(
    source: Source, data: ml_collections.ConfigDict, order: Sequence[int], repeats: int = 0
) -> _Read:
    prepare = _PrepareForTraining(
        data.image_size,
        data.augment.interpolation,
        tuple(data.augment.resized_crop_area),
        tuple(data.augment.color_jitter),
        tuple(data.augment.rand_augment),
        tuple(round(255 * value) for value in normalization(data.name)[0]),
    )
    may_skip = int(data.max_broken_share * len(source)) > 0
    return _Read(source, order, repeats or data.repeats, prepare, may_skip)


def eval_batches(
    source: Source,
    data: ml_collections.ConfigDict,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Every example once, in order; the last batch is padded and masked.

    Args:
      source: Records of `image` (bytes), `label` and `name`.
      data: `config.data`.
      batch_size: Over all processes, which all get the same number of batches.
      process_index, process_count: As in `train_batches`.

    Yields:
      `image` uint8 `[b, S, S, 3]`, `label` int32 `[b]`, `mask` bool `[b]`, False for padding.
    """
    import grain

    rows = _rows_per_process(batch_size, process_count)

    def prepare(index: int) -> dict:
        if index >= len(source):
            black = np.zeros((data.image_size, data.image_size, 3), np.uint8)
            return {"image": black, "label": np.int32(0), "mask": np.bool_(False)}
        record = source[index]
        image = decode_image(record["image"], record["name"])
        image = prepare_for_test(image, data.image_size, data.test_resize, data.interpolation)
        return {"image": image, "label": np.int32(record["label"]), "mask": np.bool_(True)}

    padded = -(-len(source) // batch_size) * batch_size
    batches = (
        grain.MapDataset.range(padded)
        .map(prepare)
        .batch(rows)
        .slice(slice(process_index, None, process_count))
    )
    return iter(batches.to_iter_dataset(_read_options(os.cpu_count())))


def _read_options(threads: int):
    """Reads one batch ahead per thread.

    Grain's default is 500 elements ahead, and an element is a whole batch here:
    19 GB for batches of 256 pictures of 224 pixels, in every worker.
    """
    import grain

    threads = min(threads, _MAX_THREADS)
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)


def _rows_per_process(batch_size: int, process_count: int) -> int:
    if batch_size % process_count:
        raise UserError(f"A batch of {batch_size} does not divide over {process_count} processes.")
    return batch_size // process_count


def _parse_flags() -> None:
    """Grain's workers read absl's flags, which only `app.run` parses."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
