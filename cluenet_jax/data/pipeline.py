"""From a source of pictures to batches, with Grain.

The order is a pure function of the seed: batch k of a run is the same rows in
the same order for any number of processes and workers. So the position to go
on from is the number of steps taken, and nothing else needs saving.
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence

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
class _Repeated:
    """Repeated augmentation: every example stands `repeats` times in a row."""

    records: Sequence
    repeats: int

    def __call__(self, position: int) -> dict:
        return self.records[position // self.repeats]


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
) -> Iterator[Batch]:
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

    Yields:
      `image` uint8 `[b, S, S, 3]` and `label` int32 `[b]`, b = batch_size / process_count.

    Raises:
      UserError: The batch does not divide over the processes, or there are no examples.
      ImageError: A picture cannot be read.
    """
    import grain  # Takes a second to import.

    rows = _rows_per_process(batch_size, process_count)
    if not len(source):
        raise UserError("There are no examples to train on.")
    prepare = _PrepareForTraining(
        data.image_size,
        data.augment.interpolation,
        tuple(data.augment.resized_crop_area),
        tuple(data.augment.color_jitter),
        tuple(data.augment.rand_augment),
        tuple(round(255 * value) for value in normalization(data.name)[0]),
    )
    # Augmented before the rows are dealt out, so that draws depend on the global
    # position alone; lazily, so that each process works on its own rows only.
    shuffled = (
        grain.MapDataset.source(source).seed(seed).shuffle().repeat(-(-_EXAMPLES // len(source)))
    )
    stream = (
        grain.MapDataset.range(_EXAMPLES)
        .seed(seed)
        .map(_Repeated(shuffled, data.repeats))
        .random_map(prepare)
        .batch(rows)
        .slice(slice(start_step * process_count + process_index, None, process_count))
    )
    workers = os.cpu_count() if data.workers == -1 else data.workers
    if not workers:
        return iter(stream.to_iter_dataset(_read_options(os.cpu_count())))
    _parse_flags()
    options = grain.MultiprocessingOptions(num_workers=workers)
    return iter(stream.to_iter_dataset(_read_options(1)).mp_prefetch(options))


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
