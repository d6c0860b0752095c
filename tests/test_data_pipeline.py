"""The stream of batches: every example once a pass, the same for any number of readers."""

import itertools
import multiprocessing

import numpy as np
import pytest

from cluenet_jax.data import (
    eval_batches,
    read_test_set,
    read_training_set,
    train_batches,
    train_indices,
)
from cluenet_jax.errors import ImageError, UserError
from tests.pictures import Pictures, data_config

CROPS = dict(augment=dict(resized_crop_area=(0.2, 1.0), color_jitter=(0.2, 0.2, 0.2, 0.05)))


def take(count: int, *, data=None, examples: int = 20, source=None, **options) -> list[dict]:
    settings = {"batch_size": 8, "seed": 3, **options}
    stream = train_batches(source or Pictures(examples), data or data_config(), **settings)
    return list(itertools.islice(stream, count))


def assert_same(ours: list[dict], theirs: list[dict]) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a["label"], b["label"])
        np.testing.assert_array_equal(a["image"], b["image"])


def test_each_pass_holds_every_example_once_in_an_order_of_its_own():
    labels = np.concatenate([batch["label"] for batch in take(10)])
    passes = labels.reshape(4, 20)
    for one in passes:
        assert sorted(one) == list(range(20))
    assert len({tuple(one) for one in passes}) == 4


def test_repeated_augmentation_shows_each_example_in_a_row():
    data = data_config(repeats=3, **CROPS)
    batches = take(5, data=data, batch_size=12)
    labels = np.concatenate([batch["label"] for batch in batches]).reshape(20, 3)
    assert (labels == labels[:, :1]).all() and sorted(labels[:, 0]) == list(range(20))
    plain = take(5, batch_size=12)
    np.testing.assert_array_equal(labels[:12, 0], plain[0]["label"])


def test_batches_have_the_promised_form():
    (batch,) = take(1)
    assert batch["image"].shape == (8, 8, 8, 3) and batch["image"].dtype == np.uint8
    assert batch["label"].shape == (8,) and batch["label"].dtype == np.int32
    np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["label"])


def test_the_seed_decides():
    assert_same(take(3), take(3))
    assert (take(3)[0]["label"] != take(3, seed=4)[0]["label"]).any()


@pytest.mark.parametrize("start", [1, 4, 7])
def test_going_on_at_any_step_equals_the_undisturbed_stream(start):
    data = data_config(**CROPS)
    assert_same(take(9, data=data)[start:], take(9 - start, data=data, start_step=start))


def test_a_start_far_away_is_cheap():
    (batch,) = take(1, start_step=10_000_000)
    assert batch["label"].shape == (8,)


@pytest.mark.parametrize("processes", [2, 4])
def test_any_number_of_processes_reads_the_same_global_batches(processes):
    data = data_config(**CROPS)
    parts = [
        take(5, data=data, start_step=2, process_index=i, process_count=processes)
        for i in range(processes)
    ]
    joined = [
        {key: np.concatenate([part[key] for part in batch]) for key in ("image", "label")}
        for batch in zip(*parts, strict=True)
    ]
    assert_same(joined, take(5, data=data, start_step=2))


def test_worker_processes_read_the_same_batches():
    alone = take(6, data=data_config(**CROPS), start_step=1)
    assert_same(take(6, data=data_config(workers=2, **CROPS), start_step=1), alone)


def test_one_row_per_process():
    parts = [take(3, batch_size=2, process_index=i, process_count=2) for i in range(2)]
    labels = [[int(batch["label"][0]) for batch in part] for part in parts]
    expected = [batch["label"].tolist() for batch in take(3, batch_size=2)]
    assert [list(pair) for pair in zip(*labels, strict=True)] == expected


def test_no_examples_are_refused():
    with pytest.raises(UserError, match="no examples"):
        take(1, examples=0)


def test_a_batch_must_divide_over_the_processes():
    with pytest.raises(UserError, match="8 does not divide over 3"):
        take(1, process_count=3)


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("examples", [1, 8, 21])
def test_evaluation_counts_every_example_once(examples, processes):
    counted, lengths = [], set()
    for i in range(processes):
        batches = list(
            eval_batches(
                Pictures(examples),
                data_config(),
                batch_size=8,
                process_index=i,
                process_count=processes,
            )
        )
        lengths.add(len(batches))
        for batch in batches:
            assert batch["image"].shape == (8 // processes, 8, 8, 3)
            counted += batch["label"][batch["mask"]].tolist()
    assert sorted(counted) == list(range(examples))
    assert lengths == {-(-examples // 8)}


def test_a_broken_picture_is_named():
    with pytest.raises(ImageError, match=r"picture \d+: not a readable picture"):
        next(train_batches(BrokenPictures(4), data_config(), batch_size=2, seed=0))
    with pytest.raises(ImageError, match="picture 0: not a readable picture"):
        next(eval_batches(BrokenPictures(4), data_config(), batch_size=2))


@pytest.mark.parametrize("read", ["train", "eval"])
def test_only_a_few_batches_are_read_ahead(read):
    """Memory: an element of the stream is a whole batch."""

    class Counted(Pictures):
        read = 0

        def __getitem__(self, index):
            Counted.read += 1
            return super().__getitem__(index)

    source = Counted(200)
    if read == "train":
        stream = train_batches(source, data_config(), batch_size=1, seed=0)
    else:
        stream = eval_batches(source, data_config(), batch_size=1)
    for _ in range(8):
        next(stream)
    stream.close()  # Waits for nothing, but submits nothing more either.
    assert Counted.read <= 8 + 16


def test_a_closed_stream_leaves_no_worker_behind():
    stream = train_batches(Pictures(20), data_config(workers=2), batch_size=8, seed=0)
    next(stream)
    assert len(multiprocessing.active_children()) == 2
    stream.close()
    assert not multiprocessing.active_children()


def test_a_broken_picture_is_named_by_a_worker_process_too():
    stream = train_batches(BrokenPictures(4), data_config(workers=1), batch_size=2, seed=0)
    with pytest.raises(ImageError, match=r"picture \d+: not a readable picture"):
        next(stream)
    stream.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_pictures_are_skipped_named_and_counted(workers, caplog):
    """Whoever reads: the others keep their places, the same one stands in."""
    data = data_config(workers=workers, max_broken_share=0.1)
    source = BrokenPictures(20, broken={3, 11})
    stream = train_batches(source, data, batch_size=10, seed=3)
    batches = [next(stream) for _ in range(4)]
    stream.close()
    assert stream.broken == {3, 11}
    for index in stream.broken:
        assert f"picture {index}: not a readable picture" in caplog.text
    assert caplog.text.count("SKIPPED") == 2, "each is told of once"
    whole = take(4, batch_size=10)
    for ours, theirs in zip(batches, whole, strict=True):
        assert ours.keys() == theirs.keys() == {"image", "label"}
        replaced = np.isin(theirs["label"], [3, 11])
        np.testing.assert_array_equal(ours["label"][~replaced], theirs["label"][~replaced])
        assert not np.isin(ours["label"], [3, 11]).any()
        np.testing.assert_array_equal(ours["image"][:, 0, 0, 0], ours["label"])
    again = take(3, source=source, data=data, batch_size=10, start_step=1)
    assert_same(again, batches[1:])


def test_too_many_broken_pictures_end_the_run():
    data = data_config(max_broken_share=0.1)
    stream = train_batches(BrokenPictures(20, broken={3, 7, 11}), data, batch_size=10, seed=3)
    with pytest.raises(UserError, match=r"3 of 20 training .* allows \(2\).*picture \d+: not a"):
        for _ in range(2):
            next(stream)
    stream = train_batches(
        BrokenPictures(20), data_config(max_broken_share=0.9), batch_size=4, seed=0
    )
    with pytest.raises(UserError, match="8 pictures in a row are broken; the last one: picture"):
        next(stream)


def test_a_dead_reading_process_is_noticed():
    data = data_config(workers=2)
    stream = train_batches(Pictures(20), data, batch_size=8, seed=3)
    next(stream)
    multiprocessing.active_children()[0].kill()
    with pytest.raises(UserError, match="has died .*exit code -9"):
        for _ in range(2000):
            next(stream)
    stream.close()


def test_a_set_that_is_read_whole_gives_the_same_batches():
    """Looked up by number or read as they are needed, broken and repeated ones among them."""
    data = data_config(max_broken_share=0.1, repeats=3)
    source = BrokenPictures(20, broken={3, 11})
    table, broken = read_training_set(source, data)
    assert broken == {3, 11} and len(table["image"]) == len(table["label"]) == 20
    for process in range(2):
        settings = dict(batch_size=8, seed=3, start_step=2, process_index=process, process_count=2)
        indices = itertools.islice(train_indices(20, data, **settings), 7)
        looked_up = [{key: rows[index] for key, rows in table.items()} for index in indices]
        assert_same(looked_up, take(7, source=source, data=data, **settings))


def test_a_set_without_examples_is_refused():
    for read in (
        lambda: take(1, examples=0),
        lambda: read_training_set(Pictures(0), data_config()),
    ):
        with pytest.raises(UserError, match="no examples to train on"):
            read()


def test_a_test_set_that_is_read_whole_is_padded_like_its_batches():
    table = read_test_set(Pictures(5), data_config(), batch_size=4)
    assert table["mask"].tolist() == [True] * 5 + [False] * 3
    parts = list(eval_batches(Pictures(5), data_config(), batch_size=4))
    np.testing.assert_array_equal(table["image"], np.concatenate([p["image"] for p in parts]))


class BrokenPictures(Pictures):
    def __init__(self, count, broken=None):
        super().__init__(count)
        self.broken = set(range(count)) if broken is None else broken

    def __getitem__(self, index):
        record = super().__getitem__(index)
        return {**record, "image": b"nothing"} if index in self.broken else record
