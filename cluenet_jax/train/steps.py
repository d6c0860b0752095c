"""One step of training and one of evaluation, as pure functions to be jitted."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax import linen as nn

from cluenet_jax.data import Dataset, augment_on_device, normalize
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

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(seed_key, state.step))
        images = augment_on_device(
            augment_key, batch["image"], config.data.augment, dataset.mean, dataset.std
        )

        def loss_fn(params: Any) -> tuple[jax.Array, jax.Array]:
            logits = model.apply(
                {"params": params}, images, train=True, rngs={"dropout": dropout_key}
            )
            losses = cross_entropy(logits, batch["label"], config.optim.label_smoothing)
            return losses.mean(), logits

        (loss, logits), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        grad_norm = optax.global_norm(grads)
        usable = jnp.isfinite(grad_norm) & (loss <= config.optim.max_loss)

        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(usable, new, old),
            (params, opt_state),
            (state.params, state.opt_state),
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
            totals=totals,
        ), metrics

    return train_step


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
