"""The stream of batches: every example once an epoch, the same for any number of readers."""

import collections
import itertools
import multiprocessing

import numpy as np
import pytest

from cluenet_jax.data import Preprocessing, decode_image, eval_batches, train_batches
from cluenet_jax.data.transforms import color_jitter, random_resized_crop
from cluenet_jax.errors import ImageError, UserError
from tests.helpers.images import ImageSource

PREPROCESS = Preprocessing(8, 0, "bicubic", (0, 0, 0), (1, 1, 1))


def eval_example(record: dict) -> dict:
    image = decode_image(record["image"], record["name"])
    return {"image": PREPROCESS(image), "label": np.int32(record["label"])}


def plain_example(record: dict, rng: np.random.Generator) -> dict:
    return eval_example(record)


def augmented_example(record: dict, rng: np.random.Generator) -> dict:
    image = decode_image(record["image"], record["name"])
    image = random_resized_crop(image, 8, rng, (0.2, 1.0))
    image = color_jitter(image, rng, 0.2, 0.2, 0.2, 0.05)
    return {"image": np.asarray(image), "label": np.int32(record["label"])}


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


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("examples", [1, 8, 21])
def test_evaluation_counts_every_example_once(examples, processes):
    counted, lengths = [], set()
    for i in range(processes):
        settings = dict(batch_size=8, process_index=i, process_count=processes)
        batches = list(eval_batches(ImageSource(examples), eval_example, **settings))
        lengths.add(len(batches))
        for batch in batches:
            assert batch["image"].shape == (8 // processes, 8, 8, 3)
            assert batch["image"].dtype == np.uint8 and batch["label"].dtype == np.int32
            assert batch["valid"].dtype == bool
            assert not batch["image"][~batch["valid"]].any()
            assert not batch["label"][~batch["valid"]].any()
            counted += batch["label"][batch["valid"]].tolist()
    assert sorted(counted) == list(range(examples))
    assert lengths == {-(-examples // 8)}


def test_an_evaluation_of_nothing_has_no_batches():
    assert not list(eval_batches(ImageSource(0), eval_example, batch_size=8))


@pytest.mark.parametrize("processes", [1, 2])
def test_an_evaluation_keeps_shapes_apart(processes):
    """Every example once, those of a shape in whole batches, for any number of processes."""

    def shaped(record):
        side = 4 + record["label"] % 3
        return {"image": np.zeros((side, side), np.uint8), "label": np.int32(record["label"])}

    counted = []
    for i in range(processes):
        settings = dict(batch_size=4, process_index=i, process_count=processes)
        batches = eval_batches(
            ImageSource(11), shaped, shapes=[i % 3 for i in range(11)], **settings
        )
        sides = []
        for batch in batches:
            labels = batch["label"][batch["valid"]]
            assert set(4 + labels % 3) <= {batch["image"].shape[1]}
            sides.append(batch["image"].shape[1])
            counted += labels.tolist()
        assert sides == [4, 5, 6]
    assert sorted(counted) == list(range(11))


def test_padding_reads_one_image_at_most():
    source = CountedReads(9)
    list(eval_batches(source, eval_example, batch_size=8))
    assert source.reads.total() == 10


def test_a_corrupt_image_is_named():
    with pytest.raises(ImageError, match=r"image \d+: not a readable image"):
        next(train_batches(CorruptImages(4), plain_example, batch_size=2, seed=0))
    with pytest.raises(ImageError, match="image 0: not a readable image"):
        next(eval_batches(CorruptImages(4), eval_example, batch_size=2))


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


def test_a_corrupt_image_is_named_by_a_worker_process_too():
    stream = train_batches(CorruptImages(4), plain_example, batch_size=2, seed=0, num_workers=1)
    with pytest.raises(ImageError, match=r"image \d+: not a readable image"):
        next(stream)
    stream.close()


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"cache": True}], ids=str)
def test_corrupt_images_are_skipped_named_and_counted(options, caplog):
    """Whoever reads: the others keep their rows, the same image is the replacement."""
    source = CorruptImages(20, corrupt={3, 11})
    settings = dict(batch_size=10, seed=3, max_corrupt_fraction=0.1, **options)
    stream = train_batches(source, plain_example, **settings)
    batches = [{k: np.array(v) for k, v in next(stream).items()} for _ in range(4)]
    stream.close()
    assert stream.corrupt == {3, 11}
    for index in stream.corrupt:
        assert f"image {index}: not a readable image" in caplog.text
    assert "SKIPPED a corrupt image, number 2 of at most 2" in caplog.text
    assert caplog.text.count("SKIPPED") == 2, "each is named once"
    whole = take(4, batch_size=10)
    for ours, theirs in zip(batches, whole, strict=True):
        assert ours.keys() == theirs.keys() == {"image", "label", "valid"}
        replaced = np.isin(theirs["label"], [3, 11])
        np.testing.assert_array_equal(ours["label"][~replaced], theirs["label"][~replaced])
        assert not np.isin(ours["label"], [3, 11]).any()
        np.testing.assert_array_equal(ours["image"][:, 0, 0, 0], ours["label"])
    assert_same(take(3, source=source, start_step=1, **settings), batches[1:])


@pytest.mark.parametrize("cache", [False, True])
def test_too_many_corrupt_images_end_the_run(cache):
    source = CorruptImages(20, corrupt={3, 7, 11})
    settings = dict(batch_size=10, seed=3, max_corrupt_fraction=0.1, cache=cache)
    stream = train_batches(source, plain_example, **settings)
    with pytest.raises(
        UserError,
        match=r"3 of 20 training images are corrupt, more than data\.max_corrupt_fraction=0\.1 "
        r"allows \(2\)\. The last one: image \d+: not a .* Fix or remove them, or allow more\.",
    ):
        for _ in range(2):
            next(stream)


def test_many_corrupt_images_in_a_row_end_the_run():
    settings = dict(batch_size=4, seed=0, max_corrupt_fraction=0.9)
    stream = train_batches(CorruptImages(20), plain_example, **settings)
    with pytest.raises(UserError, match="8 images in a row are corrupt; the last one: image"):
        next(stream)


def test_an_image_that_can_be_read_again_is_counted_too(caplog):
    class FailsOnce(ImageSource):
        failed = False

        def __getitem__(self, index):
            record = super().__getitem__(index)
            if index == 3 and not self.failed:
                self.failed = True
                return {**record, "image": b"nothing"}
            return record

    settings = dict(batch_size=20, seed=0, max_corrupt_fraction=0.1)
    stream = train_batches(FailsOnce(20), plain_example, **settings)
    for _ in range(20):  # Threads read several batches at a time.
        next(stream)
    stream.close()
    assert stream.corrupt == {3}
    assert "image 3: could not be read a moment ago, but can be now." in caplog.text


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


def test_a_cache_of_an_evaluation_is_kept_between_evaluations():
    source, cache = CountedReads(21), {}
    expected = list(eval_batches(ImageSource(21), eval_example, batch_size=8))
    for _ in range(3):
        assert_same(list(eval_batches(source, eval_example, batch_size=8, cache=cache)), expected)
    assert set(source.reads) == set(cache) == set(range(21))
    assert set(source.reads.values()) == {1}
