"""Epochs in steps."""

import math

from cluenet_jax.train.schedule import Schedule


def test_an_epoch_is_over_when_all_examples_are_read():
    schedule = Schedule(num_examples=50_000, batch_size=256)
    assert schedule.steps(105) == math.ceil(105 * 50_000 / 256)
    ends = [step for step in range(1, schedule.steps(105) + 1) if schedule.due(step, 1.0)]
    assert len(ends) == 105
    assert ends == [schedule.steps(epoch) for epoch in range(1, 106)]


def test_with_a_batch_larger_than_the_data_every_step_is_due():
    schedule = Schedule(num_examples=10, batch_size=32)
    assert all(schedule.due(step, 1.0) for step in range(1, 20))
