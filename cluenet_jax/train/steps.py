"""One step of training and one of evaluation, as pure functions to be jitted."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax import linen as nn

from cluenet_jax.data import Dataset, augment_on_device, mix, normalize, soft_targets
from cluenet_jax.train.losses import cross_entropy
from cluenet_jax.train.state import TrainState

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    config: ml_collections.ConfigDict,
    dataset: Dataset,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The training step: augment, forward, backward, update.

    The step takes a state and a batch (`image` uint8 `[B, H, W, 3]`, `label`
    int32 `[B]`) and returns the next state and this step's `loss`, `top1`,
    `lr`, `grad_norm` and `skipped` (0 or 1). A step whose loss or gradient is
    not finite, or whose loss is above `optim.max_loss`, changes nothing but the
    step count and `skipped`.
    """
    seed_key = jax.random.key(config.seed)

    optim, data = config.optim, config.data

    def loss_fn(params: Any, key: jax.Array, images: jax.Array, targets: jax.Array):
        logits = model.apply({"params": params}, images, train=True, rngs={"dropout": key})
        return cross_entropy(logits, targets).mean(), logits

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        step_key = jax.random.fold_in(seed_key, state.step)
        augment_key, mix_key, dropout_key = jax.random.split(step_key, 3)
        images = augment_on_device(
            augment_key, batch["image"], data.augment, dataset.mean, dataset.std
        )
        targets = soft_targets(batch["label"], dataset.num_classes, optim.label_smoothing)
        images, targets = mix(mix_key, images, targets, data.mix.mixup, data.mix.cutmix)
        (loss, logits), grads = _in_parts(
            jax.value_and_grad(loss_fn, has_aux=True), optim.accumulate
        )(state.params, dropout_key, images, targets)
        grad_norm = optax.tree.norm(grads)
        usable = jnp.isfinite(grad_norm) & (loss <= optim.max_loss)

        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        average = state.average
        if average is not None:
            average = optax.incremental_update(params, average, 1 - optim.ema_decay)
        kept = (state.params, state.opt_state, state.average)
        params, opt_state, average = jax.tree.map(
            lambda new, old: jnp.where(usable, new, old), (params, opt_state, average), kept
        )
        correct = (logits.argmax(-1) == batch["label"]).astype(jnp.float32)
        count = jnp.float32(correct.size)
        seen = {"loss": loss * count, "correct": correct.sum(), "count": count}
        totals = {k: state.totals[k] + jnp.where(usable, seen[k], 0) for k in seen}
        metrics = {
            "loss": loss,
            "top1": correct.mean(),
            "lr": schedule(state.step),
            "grad_norm": grad_norm,
            "skipped": 1 - usable.astype(jnp.int32),
        }
        return TrainState(
            step=state.step + 1,
            params=params,
            opt_state=opt_state,
            skipped=state.skipped + metrics["skipped"],
            skipped_in_a_row=(state.skipped_in_a_row + 1) * metrics["skipped"],
            totals=totals,
            average=average,
        ), metrics

    return train_step


def _in_parts(grad_fn: Callable, parts: int) -> Callable:
    """Computes gradients over parts of a batch one after the other, and their mean.

    Part i is every `parts`-th example from i on, so that each lies on all devices.
    """
    if parts == 1:
        return grad_fn

    def compute(params: Any, key: jax.Array, images: jax.Array, targets: jax.Array):
        def split(x: jax.Array) -> jax.Array:
            return jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1)

        def add(total: tuple, part: tuple) -> tuple[tuple, jax.Array]:
            (loss, logits), grads = grad_fn(params, *part)
            return jax.tree.map(jnp.add, total, (loss, grads)), logits

        zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
        inputs = (jax.random.split(key, parts), split(images), split(targets))
        (loss, grads), logits = jax.lax.scan(add, zero, inputs)
        loss, grads = jax.tree.map(lambda x: x / parts, (loss, grads))
        return (loss, jnp.swapaxes(logits, 0, 1).reshape(-1, logits.shape[-1])), grads

    return compute


def make_eval_step(
    model: nn.Module, mean: Sequence[float], std: Sequence[float]
) -> Callable[[Any, Batch], Metrics]:
    """The evaluation step.

    The step takes parameters and a batch (`image` uint8 `[B, H, W, 3]`, `label`,
    `mask` bool) and returns the fields of `evaluate.Predictions`, each `[B]`, and
    the mask of the examples that count.
    """

    def eval_step(params: Any, batch: Batch) -> Metrics:
        logits = model.apply({"params": params}, normalize(batch["image"], mean, std))
        labels = batch["label"]
        own = jnp.take_along_axis(logits, labels[:, None], axis=-1)
        return {
            "mask": batch["mask"],
            "label": labels,
            "prediction": logits.argmax(-1).astype(jnp.int32),
            # NaN logits are never right.
            "rank": jnp.sum(~(logits < own), axis=-1, dtype=jnp.int32) - 1,
            "confidence": jax.nn.softmax(logits).max(-1),
            "loss": cross_entropy(logits, labels),
        }

    return eval_step
