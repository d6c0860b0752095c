"""The stream of an evaluation: every example once, shapes apart, for any number of processes."""

import numpy as np
import pytest

from cluenet_jax.data import eval_batches
from tests.helpers.images import ImageSource
from tests.helpers.streams import CountedReads, assert_same, eval_example


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


def test_a_cache_of_an_evaluation_is_kept_between_evaluations():
    source, cache = CountedReads(21), {}
    expected = list(eval_batches(ImageSource(21), eval_example, batch_size=8))
    for _ in range(3):
        assert_same(list(eval_batches(source, eval_example, batch_size=8, cache=cache)), expected)
    assert set(source.reads) == set(cache) == set(range(21))
    assert set(source.reads.values()) == {1}
