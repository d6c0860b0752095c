"""The stream of training: every example once an epoch, the same for any number of readers."""

import multiprocessing

import numpy as np
import pytest

from cluenet_jax.data import decode_image, eval_batches, train_batches
from cluenet_jax.data.transforms import color_jitter, random_resized_crop
from cluenet_jax.errors import UserError
from tests.helpers.images import ImageSource
from tests.helpers.streams import (
    CorruptImages,
    CountedReads,
    assert_same,
    eval_example,
    plain_example,
    take,
)


def augmented_example(record: dict, rng: np.random.Generator) -> dict:
    image = decode_image(record["image"], record["name"])
    image = random_resized_crop(image, 8, rng, (0.2, 1.0))
    image = color_jitter(image, rng, 0.2, 0.2, 0.2, 0.05)
    return {"image": np.asarray(image), "label": np.int32(record["label"])}


def test_each_epoch_holds_every_example_once_in_an_order_of_its_own():
    labels = np.concatenate([batch["label"] for batch in take(10)])
    epochs = labels.reshape(4, 20)
    for epoch in epochs:
        assert sorted(epoch) == list(range(20))
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_repeated_augmentation_shows_each_example_in_a_row():
    batches = take(5, example=augmented_example, num_repeats=3, batch_size=12)
    labels = np.concatenate([batch["label"] for batch in batches]).reshape(20, 3)
    assert (labels == labels[:, :1]).all() and sorted(labels[:, 0]) == list(range(20))
    plain = take(5, batch_size=12)
    np.testing.assert_array_equal(labels[:12, 0], plain[0]["label"])


def test_batches_have_the_promised_form():
    (batch,) = take(1)
    assert batch.keys() == {"image", "label", "valid"}
    assert batch["image"].shape == (8, 8, 8, 3) and batch["image"].dtype == np.uint8
    assert batch["label"].shape == (8,) and batch["label"].dtype == np.int32
    assert batch["valid"].dtype == bool and batch["valid"].all()
    np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["label"])


def test_an_example_may_have_any_arrays():
    def example(record, rng):
        boxes = np.full((5, 4), record["label"], np.float32)
        return {"boxes": boxes, "id": np.int64(record["label"])}

    (batch,) = take(1, example=example)
    assert batch.keys() == {"boxes", "id", "valid"} and batch["boxes"].shape == (8, 5, 4)
    np.testing.assert_array_equal(batch["boxes"][:, 0, 0], batch["id"])
    (padded,) = eval_batches(ImageSource(3), lambda record: example(record, None), batch_size=4)
    assert padded["id"].dtype == np.int64 and padded["boxes"].dtype == np.float32
    assert padded["valid"].tolist() == [True] * 3 + [False]


def test_the_seed_decides():
    assert_same(take(3), take(3))
    assert (take(3)[0]["label"] != take(3, seed=4)[0]["label"]).any()


@pytest.mark.parametrize("start", [1, 4, 7])
def test_resuming_at_any_step_equals_the_undisturbed_stream(start):
    undisturbed = take(9, example=augmented_example)
    resumed = take(9 - start, example=augmented_example, start_step=start)
    assert_same(undisturbed[start:], resumed)


def test_a_start_far_away_is_cheap():
    (batch,) = take(1, start_step=10_000_000)
    assert batch["label"].shape == (8,)


@pytest.mark.parametrize("processes", [2, 4])
def test_any_number_of_processes_reads_the_same_global_batches(processes):
    settings = dict(example=augmented_example, start_step=2)
    parts = [
        take(5, process_index=i, process_count=processes, **settings) for i in range(processes)
    ]
    joined = [
        {key: np.concatenate([part[key] for part in batch]) for key in batch[0]}
        for batch in zip(*parts, strict=True)
    ]
    assert_same(joined, take(5, **settings))


def test_worker_processes_read_the_same_batches():
    settings = dict(example=augmented_example, start_step=1)
    assert_same(take(6, num_workers=2, **settings), take(6, **settings))


def test_one_row_per_process():
    parts = [take(3, batch_size=2, process_index=i, process_count=2) for i in range(2)]
    labels = [[int(batch["label"][0]) for batch in part] for part in parts]
    expected = [batch["label"].tolist() for batch in take(3, batch_size=2)]
    assert [list(pair) for pair in zip(*labels, strict=True)] == expected


@pytest.mark.parametrize("cache", [False, True])
def test_no_examples_are_refused(cache):
    with pytest.raises(UserError, match="no examples to train on"):
        take(1, examples=0, cache=cache)


def test_a_batch_must_divide_over_the_processes():
    with pytest.raises(UserError, match="8 does not divide over 3"):
        take(1, process_count=3)
    with pytest.raises(UserError, match="8 does not divide over 3"):
        eval_batches(ImageSource(4), eval_example, batch_size=8, process_count=3)


@pytest.mark.parametrize("split", ["train", "eval"])
def test_only_a_few_batches_are_read_ahead(split):
    """Memory: an element of the stream is a whole batch."""
    source = CountedReads(200)
    if split == "train":
        stream = train_batches(source, plain_example, batch_size=1, seed=0)
    else:
        stream = eval_batches(source, eval_example, batch_size=1)
    for _ in range(8):
        next(stream)
    stream.close()  # Waits for nothing, but submits nothing more either.
    assert source.reads.total() <= 8 + 16


def test_a_closed_stream_leaves_no_worker_behind():
    stream = train_batches(ImageSource(20), plain_example, batch_size=8, seed=0, num_workers=2)
    next(stream)
    assert len(multiprocessing.active_children()) == 2
    stream.close()
    assert not multiprocessing.active_children()


def test_a_dead_reading_process_is_noticed():
    stream = train_batches(ImageSource(20), plain_example, batch_size=8, seed=3, num_workers=2)
    next(stream)
    multiprocessing.active_children()[0].kill()
    with pytest.raises(
        UserError, match=r"A process that reads images has died .*exit code -9.*data\.num_workers"
    ):
        for _ in range(2000):
            next(stream)
    stream.close()


def test_a_cache_gives_the_same_batches_and_reads_each_image_once():
    """Corrupt and repeated ones among them, and on each process of several."""
    corrupt = {3, 11}
    for process in range(2):
        settings = dict(
            max_corrupt_fraction=0.1,
            num_repeats=3,
            start_step=2,
            process_index=process,
            process_count=2,
        )
        source = CountedReads(20, corrupt)
        cached = take(30, source=source, cache=True, **settings)
        assert_same(cached, take(30, source=CorruptImages(20, corrupt), **settings))
        assert set(source.reads) == set(range(20))
        assert set(source.reads.values()) == {1}


def test_a_cache_is_not_for_worker_processes():
    with pytest.raises(UserError, match="num_workers=2: a cache is in the memory of one process"):
        take(1, cache=True, num_workers=2)
