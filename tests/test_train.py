"""The parts of training: schedule, optimiser, guarded step, reports, checkpoints."""

import contextlib
import dataclasses
import itertools
import json
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath
from flax import linen as nn

from cluenet_jax.config import check_config, default_config
from cluenet_jax.data import Dataset, mix, soft_targets
from cluenet_jax.errors import UserError
from cluenet_jax.train import checkpoint, losses, sharding
from cluenet_jax.train.clock import Clock
from cluenet_jax.train.evaluate import predict_all
from cluenet_jax.train.feed import open_feed
from cluenet_jax.train.optim import learning_rate, make_optimizer
from cluenet_jax.train.report import Report, read_metrics
from cluenet_jax.train.state import create_state
from cluenet_jax.train.steps import make_eval_step, make_train_step
from tests.pictures import Pictures


def test_an_epoch_is_over_when_all_examples_are_seen():
    clock = Clock(num_examples=50_000, batch_size=256)
    assert clock.steps(105) == math.ceil(105 * 50_000 / 256)
    ends = [step for step in range(1, clock.steps(105) + 1) if clock.passes(step, 1.0)]
    assert len(ends) == 105
    assert ends == [clock.steps(epoch) for epoch in range(1, 106)]


def test_a_batch_larger_than_the_data_passes_every_step():
    clock = Clock(num_examples=10, batch_size=32)
    assert all(clock.passes(step, 1.0) for step in range(1, 20))


def test_the_published_schedule():
    config = default_config().optim
    config.update(dict(peak_lr=1.5e-2, epochs=105.0, warmup_epochs=5.0, lr_per="epoch"))
    clock = Clock(50_000, 256)
    rate = jax.jit(learning_rate(config, clock))
    by_hand = [1e-6 + t * (1.5e-2 - 1e-6) / 5 for t in range(5)] + [
        1e-5 + (1.5e-2 - 1e-5) * (1 + math.cos(math.pi * t / 105)) / 2 for t in range(5, 105)
    ]
    for epoch in (0, 1, 4, 5, 50, 104):
        begin, end = clock.steps(epoch), clock.steps(epoch + 1) - 1
        for step in (begin, (begin + end) // 2, end):
            np.testing.assert_allclose(rate(step), by_hand[epoch], rtol=1e-5)
    np.testing.assert_allclose(rate(clock.steps(105)), 1e-5, rtol=1e-3)
    np.testing.assert_allclose(rate(10**9), 1e-5, rtol=1e-3)


def test_the_schedule_per_step_grows_and_falls_smoothly():
    config = default_config().optim
    config.update(dict(epochs=10.0, warmup_epochs=2.0, lr_per="step"))
    rate = learning_rate(config, Clock(1000, 10))
    rates = np.array([rate(step) for step in range(1000)])
    changes = np.diff(rates)
    assert (changes[:199] > 0).all() and (changes[199:] < 0).all()
    # Where the cosine takes over, it stands where it would be without a warm-up.
    assert np.abs(np.delete(changes, 199)).max() < config.peak_lr / 150
    np.testing.assert_allclose(rates[200] / config.peak_lr, 0.9055, rtol=1e-3)


def test_adamw_decays_every_parameter_and_clips():
    config = default_config().optim
    config.update(dict(weight_decay=0.05, clip_norm=1.0))
    params = {"kernel": jnp.ones(3), "bias": jnp.ones(2)}
    optimizer = make_optimizer(config, optax.constant_schedule(0.1))
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zero, optimizer.init(params), params)
    chex.assert_trees_all_close(updates, jax.tree.map(lambda p: -0.1 * 0.05 * p, params))
    # Adam's first step does not feel the length of a gradient, its second moment does.
    huge = jax.tree.map(lambda p: 1e6 * jnp.ones_like(p), params)
    _, state = optimizer.update(huge, optimizer.init(params), params)
    moment = optax.tree_utils.tree_get(state, "mu")
    np.testing.assert_allclose(optax.global_norm(moment), 0.1, rtol=1e-5)


def test_decay_can_spare_norms_and_biases():
    config = default_config().optim
    config.decay = "weights"
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2), "alpha": jnp.ones(())}
    optimizer = make_optimizer(config, optax.constant_schedule(0.1))
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zero, optimizer.init(params), params)
    assert {k: bool((u != 0).any()) for k, u in updates.items()} == {
        "kernel": True,
        "bias": False,
        "alpha": False,
    }


def test_mixed_targets_say_what_is_in_the_picture():
    images = jnp.stack([jnp.full((16, 16, 1), float(i)) for i in range(4)])
    targets = jnp.eye(4)
    np.testing.assert_array_equal(mix(jax.random.key(0), images, targets, 0.0, 0.0)[0], images)
    kinds = set()
    for seed in range(30):
        mixed, soft = mix(jax.random.key(seed), images, targets, 0.8, 1.0)
        np.testing.assert_allclose(soft.sum(1), 1, rtol=1e-5)
        # Pictures are their number, so the mean of what is seen tells the shares.
        np.testing.assert_allclose(mixed.mean((1, 2, 3)), soft @ jnp.arange(4.0), atol=1e-4)
        whole = np.isin(np.round(mixed, 5), np.arange(4)).all()
        kinds.add("cutmix" if whole else "mixup")
    assert kinds == {"mixup", "cutmix"}


def test_smoothed_targets():
    logits, labels = jnp.array([[2.0, 0.0, -1.0]]), jnp.array([0])
    plain = losses.cross_entropy(logits, labels)
    smooth = losses.cross_entropy(logits, soft_targets(labels, 3, 0.3))
    log_p = np.asarray(jax.nn.log_softmax(logits))[0]
    np.testing.assert_allclose(plain, -log_p[:1], rtol=1e-6)
    np.testing.assert_allclose(smooth, [-0.8 * log_p[0] - 0.1 * log_p[1:].sum()], rtol=1e-6)


class Linear(nn.Module):
    """Enough of a network for one step."""

    @nn.compact
    def __call__(self, images, train=False):
        return nn.Dense(7)(images.reshape(len(images), -1))


DATASET = Dataset("made", tuple("abcdefg"), [], [], (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def test_parts_of_a_batch_give_the_gradient_of_the_whole(trainer):
    _, state, batch, mesh = trainer
    batch = sharding.to_devices(batch, mesh)
    after = []
    for parts in (1, 4):
        config = default_config()
        config.optim.accumulate = parts
        schedule = optax.constant_schedule(1e-2)
        optimizer = optax.sgd(1.0)
        step = jax.jit(make_train_step(Linear(), optimizer, schedule, config, DATASET))
        fresh = state.replace(opt_state=optimizer.init(state.params))
        after.append(step(fresh, batch))
    (one, one_metrics), (four, four_metrics) = after
    chex.assert_trees_all_close(one.params, four.params, rtol=1e-4, atol=1e-6)
    chex.assert_trees_all_close(one_metrics, four_metrics, rtol=1e-5)


def test_the_average_follows_the_parameters(trainer):
    _, state, batch, mesh = trainer
    config = default_config()
    config.optim.ema_decay = 0.9
    schedule = optax.constant_schedule(1e-2)
    optimizer = make_optimizer(config.optim, schedule)
    step = jax.jit(make_train_step(Linear(), optimizer, schedule, config, DATASET))
    state = state.replace(average=jax.tree.map(jnp.copy, state.params))
    after, _ = step(state, sharding.to_devices(batch, mesh))
    expected = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, state.params, after.params)
    chex.assert_trees_all_close(after.tested_params, expected, rtol=1e-5)


@pytest.fixture
def trainer():
    config = default_config()
    config.optim.max_loss = 100.0
    schedule = optax.constant_schedule(1e-2)
    optimizer = make_optimizer(config.optim, schedule)
    mesh = sharding.make_mesh()
    state = create_state(Linear(), optimizer, 8, 0, lambda shapes: sharding.replicated(mesh))
    step = make_train_step(Linear(), optimizer, schedule, config, DATASET)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (8, 8, 8, 3), dtype=np.uint8),
        "label": np.arange(8, dtype=np.int32) % 7,
    }
    return chex.chexify(jax.jit(step), async_check=False), state, batch, mesh


def test_a_step_learns_and_counts(trainer):
    step, state, batch, mesh = trainer
    batch = sharding.to_devices(batch, mesh)
    first = None
    for _ in range(20):
        state, metrics = step(state, batch)
        first = first or metrics
    assert metrics["loss"] < 0.5 * first["loss"]
    assert (int(state.step), int(state.skipped)) == (20, 0)
    assert float(state.totals["count"]) == 160


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_a_step_of_unusable_loss_changes_nothing(trainer, value):
    step, state, batch, mesh = trainer
    params = jax.tree.map(lambda p: p.at[(0,) * p.ndim].set(value), state.params)
    broken = state.replace(params=params)
    after, metrics = step(broken, sharding.to_devices(batch, mesh))
    assert int(metrics["skipped"]) == 1 and int(after.skipped) == 1 and int(after.step) == 1
    chex.assert_trees_all_equal(after.params, broken.params)
    chex.assert_trees_all_equal(after.opt_state, broken.opt_state)
    assert float(after.totals["count"]) == 0


def test_pictures_that_live_on_the_devices_give_the_same_batches():
    config = default_config()
    config.data.image_size = 8
    config.optim.batch_size, config.eval.batch_size = 8, 4
    dataset = dataclasses.replace(DATASET, train=Pictures(20), test=Pictures(7))
    mesh = sharding.make_mesh()
    read, kept = [], []
    for on_device, batches in ((False, read), (True, kept)):
        config.data.on_device = on_device
        with contextlib.closing(open_feed(dataset, config, mesh)) as feed:
            batches += itertools.islice(feed.train(start_step=3), 4)
            batches += feed.test()
    assert len(kept) == 4 + 2
    chex.assert_trees_all_equal(kept, read)
    for ours, theirs in zip(kept, read, strict=True):
        assert ours["image"].sharding == theirs["image"].sharding


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("resized_crop_area", (0.2, 1.0)),
        ("color_jitter", (0.0, 0.0, 0.0, 0.1)),
        ("rand_augment", (9.0, 0.0)),
    ],
)
def test_what_is_augmented_on_the_host_cannot_live_on_the_devices(name, value):
    config = default_config()
    config.data.on_device = True
    check_config(config, 1)
    config.data.augment[name] = value
    with pytest.raises(UserError, match=f"on_device=True: data.augment.{name} work"):
        check_config(config, 1)


def test_what_passes_is_no_damage():
    """Else a good checkpoint would be set aside when the network is down."""
    damage = [FileNotFoundError("no"), ValueError("DATA_LOSS: cut short"), KeyError("meta")]
    passing = [
        PermissionError("no"),
        TimeoutError("no"),
        MemoryError(),
        ValueError("UNAVAILABLE: CURL error"),
        ValueError("Gloo all-reduce failed"),
    ]
    assert all(checkpoint.is_damage(error) for error in damage)
    assert not any(checkpoint.is_damage(error) for error in passing)


def test_evaluation_is_the_mean_over_all_examples(trainer):
    _, state, batch, mesh = trainer
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    labels = rng.integers(0, 7, 20).astype(np.int32)
    logits = Linear().apply({"params": state.params}, (images / 255 - 0.5) / 0.25)
    order = np.argsort(-np.asarray(logits), axis=1)
    expected = {
        "loss": float(losses.cross_entropy(logits, labels).mean()),
        "count": 20,
        **{f"top{k}": np.mean((order[:, :k] == labels[:, None]).any(1)) for k in (1, 3, 5)},
    }
    padding = ((0, 4), (0, 0), (0, 0), (0, 0))
    padded = np.pad(images, padding), np.pad(labels, (0, 4)), np.arange(24) < 20
    batches = [
        dict(zip(("image", "label", "mask"), (a[i : i + 8] for a in padded), strict=True))
        for i in (0, 8, 16)
    ]
    eval_step = jax.jit(make_eval_step(Linear(), DATASET.mean, DATASET.std))
    predictions = predict_all(eval_step, state.params, batches)
    scores = predictions.scores(7)
    confusion = predictions.confusion(7)
    assert confusion.sum() == 20 and confusion[labels[3], order[3, 0]] >= 1
    np.testing.assert_allclose(confusion.trace() / 20, scores["top1"])
    assert scores.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(scores[name], value, rtol=1e-5)


def test_a_report_goes_on_where_the_checkpoint_is(tmp_path):
    workdir = epath.Path(tmp_path)
    report = Report(workdir, 0, 10, batch_size=8)
    for step in (1, 2, 3):
        report.write(step, loss=math.nan if step == 1 else float(step))
    report.close()
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # Cut short by a kill.
    report = Report(workdir, 2, 10, batch_size=8)
    report.write(3, loss=9.0)
    report.close()
    records = read_metrics(workdir / "metrics.jsonl")
    assert [(r["step"], r["loss"]) for r in records] == [(1, "nan"), (2, 2.0), (3, 9.0)]
    assert all(json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines())
    assert list((workdir / "tensorboard").glob("events*"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.name", "cluenet_tiney", "Did you mean 'cluenet_tiny'"),
        ("model.pooling", "max", "icp, fec, shared"),
        ("seed", -1, "must be 0 or more"),
        ("data.name", "cifar", "known are digits, cifar10"),
        ("data.interpolation", "sinc", "nearest, bilinear, bicubic, lanczos"),
        ("data.augment.erase_mode", "grey", "zeros, noise"),
        ("optim.batch_size", 129, "multiple of the 8 devices, for example 128"),
        ("eval.batch_size", 4, "multiple of the 8 devices, for example 8"),
        ("optim.warmup_epochs", 1e6, "in 0 .. epochs"),
        ("optim.lr_per", "hour", "'epoch' or 'step'"),
        ("train.log_every", 0, "at least 1 step"),
    ],
)
def test_a_config_that_cannot_run_is_refused(key, value, message):
    config = default_config()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=message) as error:
        check_config(config, device_count=8)
    assert f"config.{key.split('.')[0]}" in str(error.value)
