"""The learning rate schedule and AdamW."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

from cluenet_jax.config import default_config
from cluenet_jax.train.optimizer import learning_rate, make_optimizer
from cluenet_jax.train.schedule import Schedule


def test_the_published_schedule():
    optim = default_config().optim
    optim.update(dict(peak_lr=1.5e-2, epochs=105.0, warmup_epochs=5.0, lr_update="epoch"))
    schedule = Schedule(50_000, 256)
    at = jax.jit(learning_rate(optim, schedule))
    by_hand = [1e-6 + t * (1.5e-2 - 1e-6) / 5 for t in range(5)] + [
        1e-5 + (1.5e-2 - 1e-5) * (1 + math.cos(math.pi * t / 105)) / 2 for t in range(5, 105)
    ]
    for epoch in (0, 1, 4, 5, 50, 104):
        begin, end = schedule.steps(epoch), schedule.steps(epoch + 1) - 1
        for step in (begin, (begin + end) // 2, end):
            np.testing.assert_allclose(at(step), by_hand[epoch], rtol=1e-5)
    np.testing.assert_allclose(at(schedule.steps(105)), 1e-5, rtol=1e-3)
    np.testing.assert_allclose(at(10**9), 1e-5, rtol=1e-3)


def test_the_schedule_per_step_grows_and_falls_smoothly():
    optim = default_config().optim
    optim.update(dict(epochs=10.0, warmup_epochs=2.0, lr_update="step"))
    at = learning_rate(optim, Schedule(1000, 10))
    rates = np.array([at(step) for step in range(1000)])
    changes = np.diff(rates)
    assert (changes[:199] > 0).all() and (changes[199:] < 0).all()
    # Where the cosine takes over, it is where it would be without a warm-up.
    assert np.abs(np.delete(changes, 199)).max() < optim.peak_lr / 150
    np.testing.assert_allclose(rates[200] / optim.peak_lr, 0.9055, rtol=1e-3)


def test_the_schedule_in_steps():
    optim = default_config().optim
    optim.update(dict(epochs=12.0, warmup_epochs=1.0, lr_update="step", decay="steps"))
    optim.update(dict(decay_epochs=(8.0, 11.0), peak_lr=2e-4, min_lr=0.0, warmup_lr=0.0))
    at = learning_rate(optim, Schedule(1000, 10))
    rates = [float(at(step)) for step in (50, 100, 799, 800, 1099, 1100, 1199)]
    np.testing.assert_allclose(rates, [1e-4, 2e-4, 2e-4, 2e-5, 2e-5, 2e-6, 2e-6], rtol=1e-5)


def test_adamw_decays_every_parameter_and_clips():
    optim = default_config().optim
    optim.update(dict(weight_decay=0.05, clip_norm=1.0))
    params = {"kernel": jnp.ones(3), "bias": jnp.ones(2)}
    optimizer = make_optimizer(optim, optax.constant_schedule(0.1))
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zero, optimizer.init(params), params)
    chex.assert_trees_all_close(updates, jax.tree.map(lambda p: -0.1 * 0.05 * p, params))
    # Adam's first step does not feel the length of a gradient, its second moment does.
    huge = jax.tree.map(lambda p: 1e6 * jnp.ones_like(p), params)
    _, state = optimizer.update(huge, optimizer.init(params), params)
    moment = optax.tree_utils.tree_get(state, "mu")
    np.testing.assert_allclose(optax.global_norm(moment), 0.1, rtol=1e-5)


@pytest.mark.parametrize(
    ("spared", "decayed"),
    [
        ("none", {"kernel", "bias", "alpha", "norm1/scale", "norm1/bias", "bn/scale"}),
        ("norm", {"kernel", "bias", "alpha", "bn/scale"}),
        ("norm_and_bias", {"kernel"}),
    ],
)
def test_decay_can_spare_norms_and_biases(spared, decayed):
    optim = default_config().optim
    optim.no_weight_decay = spared
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2), "alpha": jnp.ones(())}
    params |= {"norm1": {"scale": jnp.ones(2), "bias": jnp.ones(2)}, "bn": {"scale": jnp.ones(2)}}
    optimizer = make_optimizer(optim, optax.constant_schedule(0.1))
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zero, optimizer.init(params), params)
    flat = traverse_util.flatten_dict(updates, sep="/")
    assert {path for path, update in flat.items() if (update != 0).any()} == decayed


@pytest.mark.parametrize("frozen", [False, True])
def test_the_head_has_a_learning_rate_of_its_own(frozen):
    optim = default_config().optim
    optim.update(dict(weight_decay=0.0, head_lr_scale=10.0, freeze_backbone=frozen))
    params = {"backbone": {"kernel": jnp.ones(3)}, "head": {"kernel": jnp.ones(3)}}
    optimizer = make_optimizer(optim, optax.constant_schedule(0.1))
    ones = jax.tree.map(jnp.ones_like, params)
    updates, _ = optimizer.update(ones, optimizer.init(params), params)
    expected = 0.0 if frozen else -0.1
    np.testing.assert_allclose(updates["backbone"]["kernel"], expected, rtol=1e-5)
    np.testing.assert_allclose(updates["head"]["kernel"], -1.0, rtol=1e-5)
