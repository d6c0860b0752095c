"""The guarded training step: it learns, counts, accumulates, averages and skips."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cluenet_jax.config import default_config
from tests.helpers.linear import Linear, linear_trainer
from tests.helpers.models import tiny_fec


@pytest.fixture(scope="module")
def trainer():
    config = default_config()
    config.optim.max_loss = 100.0
    return linear_trainer(config)


def test_a_step_learns_and_counts(trainer):
    step, state, batch = trainer
    first = None
    for _ in range(20):
        state, metrics = step(state, batch)
        first = first or metrics
    assert metrics["loss"] < 0.5 * first["loss"]
    assert (int(state.step), int(state.num_skipped)) == (20, 0)
    assert float(state.metric_sums["loss"][1]) == float(state.metric_sums["top1"][1]) == 160


def test_parts_of_a_batch_give_the_gradient_of_the_whole():
    after = []
    for parts in (1, 4):
        config = default_config()
        config.optim.grad_accum_steps = parts
        step, state, batch = linear_trainer(config, optimizer=optax.sgd(1.0))
        after.append(step(state, batch))
    (one, one_metrics), (four, four_metrics) = after
    chex.assert_trees_all_close(one.params, four.params, rtol=1e-4, atol=1e-6)
    chex.assert_trees_all_close(one.metric_sums, four.metric_sums, rtol=1e-5)
    chex.assert_trees_all_close(one_metrics, four_metrics, rtol=1e-5)


def test_the_average_follows_the_parameters():
    config = default_config()
    config.optim.ema_decay = 0.9
    step, state, batch = linear_trainer(config)
    after, _ = step(state, batch)
    expected = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, state.params, after.params)
    chex.assert_trees_all_close(after.eval_params, expected, rtol=1e-5)


@pytest.mark.parametrize("parts", [1, 2])
def test_other_collections_are_updated_averaged_and_used(parts):
    config = default_config()
    config.optim.grad_accum_steps = parts
    config.optim.ema_decay = 0.9
    step, state, batch = linear_trainer(config, Linear(stats=True))
    after, _ = step(state, batch)
    mean = ("batch_stats", "BatchNorm_0", "mean")
    before, now, average = (
        tree[mean[0]][mean[1]][mean[2]]
        for tree in (state.model_state, after.model_state, after.eval_variables)
    )
    assert not np.allclose(before, now)
    np.testing.assert_allclose(average, 0.9 * before + 0.1 * now, rtol=1e-5, atol=1e-7)
    expected = (np.asarray(batch["image"], np.float32) / 255 - 0.5) / 0.25
    if parts == 1:
        np.testing.assert_allclose(now, 0.1 * expected.reshape(8, -1).mean(0), atol=1e-5)
    # A count is no average, and keeps its type.
    for tree in (after.model_state, after.ema_model_state):
        num_batches = tree["batch_stats"]["BatchNorm_0"]["num_batches"]
        assert num_batches == parts and num_batches.dtype == jnp.int32
    chex.assert_trees_all_equal_dtypes(state, after)
    items = after.to_items()
    assert items["variables"].keys() == {"params", "batch_stats"}
    chex.assert_trees_all_equal(state.from_items(items), after)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_a_step_of_unusable_loss_changes_nothing(trainer, value):
    step, state, batch = trainer
    params = jax.tree.map(lambda p: p.at[(0,) * p.ndim].set(value), state.params)
    spoiled = state.replace(params=params)
    after, metrics = step(spoiled, batch)
    assert int(metrics["skipped"]) == 1 and int(after.num_skipped) == 1 and int(after.step) == 1
    assert int(after.consecutive_skips) == 1
    chex.assert_trees_all_equal(after.params, spoiled.params)
    chex.assert_trees_all_equal(after.opt_state, spoiled.opt_state)
    assert float(after.metric_sums["loss"][1]) == 0
    usable, _ = step(after.replace(params=state.params), batch)
    assert int(usable.consecutive_skips) == 0 and int(usable.num_skipped) == 1


def test_a_step_is_compiled_once(trainer):
    _, state, batch = trainer
    config = default_config()
    traced = chex.assert_max_traces(n=1)
    step, state, batch = linear_trainer(config)
    step = jax.jit(traced(step.__wrapped__))
    for _ in range(3):
        state, _ = step(state, batch)
    assert jnp.isfinite(state.params["Dense_0"]["kernel"]).all()


def test_a_step_moves_all_parameters_and_nothing_that_is_frozen():
    config = default_config()
    config.optim.ema_decay = 0.9
    step, state, batch = linear_trainer(config, tiny_fec(7, patch=(1, 1, 0), drop_path=0.0))
    after, metrics = step(state, batch)
    assert metrics["skipped"] == 0 and np.isfinite(metrics["loss"])
    paths = jax.tree_util.tree_leaves_with_path(state.params)
    for (path, old), new in zip(paths, jax.tree.leaves(after.params), strict=True):
        assert np.any(old != new), path
    assert state.model_state.keys() == {"frozen"}
    chex.assert_trees_all_equal(state.model_state, after.model_state)
    chex.assert_trees_all_equal(state.model_state, after.ema_model_state)
    trained = jax.tree_util.tree_leaves_with_path((after.params, after.opt_state))
    assert not any("guide" in str(path) for path, _ in trained)
