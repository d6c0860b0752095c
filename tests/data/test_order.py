"""Orders of examples: batches of one group, every example in each epoch."""

import pickle

import numpy as np
import pytest

from cluenet_jax.data.order import GroupedOrder, eval_order, indices_by_group
from tests.helpers.streams import CorruptImages, assert_same, take

GROUPS = ["wide", "high", "wide", "wide", "high"] * 6


def order_of(batch_size=4, seed=1, groups=GROUPS):
    return GroupedOrder(tuple(indices_by_group(groups)), batch_size, seed)


def epochs_of(order, count):
    indices = [order[position] for position in range(count * order.epoch_length)]
    return np.reshape(indices, (count, -1))


def test_indices_are_grouped_in_order():
    wide, high = indices_by_group(GROUPS)
    assert wide[:4].tolist() == [0, 2, 3, 5] and high[:3].tolist() == [1, 4, 6]
    assert sorted([*wide, *high]) == [*range(30)] and wide.dtype == np.int64


@pytest.mark.parametrize("batch_size", [1, 4, 6, 50])
def test_batches_are_of_one_group_and_epochs_hold_every_example(batch_size):
    epochs = epochs_of(order_of(batch_size), 3)
    # 18 wide and 12 high ones.
    assert epochs.shape[1] == {1: 30, 4: 20 + 12, 6: 30, 50: 100}[batch_size]
    for epoch in epochs:
        assert {*epoch} == {*range(30)}
        for batch in epoch.reshape(-1, batch_size):
            assert len({GROUPS[index] for index in batch}) == 1
    assert not (epochs[0] == epochs[1]).all()


def test_other_examples_fill_batches_up_in_each_epoch():
    extra = [np.flatnonzero(np.bincount(epoch) > 1) for epoch in epochs_of(order_of(), 20)]
    assert all(len(indices) == 2 for indices in extra)
    assert len({*np.concatenate(extra).tolist()}) > 10


def test_groups_are_mixed():
    kinds = [GROUPS[index] for index in epochs_of(order_of(), 10)[:, ::4].ravel()]
    changes = sum(first != second for first, second in zip(kinds, kinds[1:], strict=False))
    assert changes > 20


def test_any_position_can_be_read_first_and_in_a_copy():
    order, plain = order_of(), epochs_of(order_of(), 5).ravel()
    for position in (159, 3, 70, 40, 159):
        assert order[position] == plain[position]
        assert pickle.loads(pickle.dumps(order))[position] == plain[position]
    assert order[10**12] in range(30)
    assert (epochs_of(order_of(seed=2), 1)[0] != plain[:32]).any()


def test_evaluations_count_every_example_once():
    order = eval_order(GROUPS, 4)
    assert sorted(index for index, valid in order if valid) == [*range(30)]
    assert len(order) == 20 + 12
    for start in range(0, len(order), 4):
        assert len({GROUPS[index] for index, _ in order[start : start + 4]}) == 1


PARITY = [index % 3 == 0 for index in range(20)]


def test_the_stream_has_batches_of_one_group():
    """7 and 13 examples: an epoch is a batch of 8 and two of them."""
    batches = take(9, groups=PARITY)
    for epoch in range(3):
        labels = np.stack([batch["label"] for batch in batches[3 * epoch : 3 * epoch + 3]])
        assert {*labels.ravel().tolist()} == {*range(20)}
        assert sorted((labels % 3 == 0).mean(1)) == [0, 0, 1]


@pytest.mark.parametrize("options", [dict(start_step=4), dict(start_step=4, num_workers=2)])
def test_the_stream_resumes_for_any_number_of_readers(options):
    assert_same(take(9, groups=PARITY)[4:], take(5, groups=PARITY, **options))


@pytest.mark.parametrize("processes", [2, 8])
def test_all_processes_read_the_same_group(processes):
    whole = take(6, groups=PARITY)
    parts = [
        take(6, groups=PARITY, process_index=i, process_count=processes) for i in range(processes)
    ]
    for step, batch in enumerate(whole):
        labels = np.concatenate([part[step]["label"] for part in parts])
        np.testing.assert_array_equal(labels, batch["label"])


def test_repeats_stay_in_their_group():
    for batch in take(12, groups=PARITY, num_repeats=3):
        assert len({PARITY[label] for label in batch["label"].tolist()}) == 1


def test_a_corrupt_image_is_replaced_by_one_of_its_group():
    source = CorruptImages(20, {0, 3, 7})
    batches = take(6, source=source, groups=PARITY, max_corrupt_fraction=0.2)
    labels = np.stack([batch["label"] for batch in batches])
    assert not {*labels.ravel().tolist()} & {0, 3, 7}
    assert {*(labels % 3 == 0).mean(1).tolist()} == {0.0, 1.0}
