"""AdamW and the published learning rate schedule."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from cluenet_jax.settings import (
    check_batch_size,
    check_settings,
    flag,
    integer,
    number,
    one_of,
    require,
    several,
)
from cluenet_jax.train.schedule import Schedule


def _weights_only(params: Any) -> Any:
    """True for matrices and kernels, False for norms, biases and scalars."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _outside_norms(params: Any) -> Any:
    """False for what lies in a module named after a norm, as Swin's recipes say it; else True.

    Heads call their BatchNorms `bn`: they are not meant.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: not any("norm" in key.key for key in path), params
    )


# What weight decay leaves out, and the function that tells what it reaches.
_UNDECAYED = {"none": None, "norm": _outside_norms, "norm_and_bias": _weights_only}

_SETTINGS = {
    "grad_accum_steps": integer(1),
    "peak_lr": number(least=0),
    "weight_decay": number(least=0),
    "no_weight_decay": one_of(tuple(_UNDECAYED)),
    "epochs": number(above=0),
    "warmup_epochs": number(least=0),
    "warmup_lr": number(least=0),
    "min_lr": number(least=0),
    "cooldown_epochs": number(least=0),
    "decay": one_of(("cosine", "poly", "steps")),
    "poly_power": number(above=0),
    "decay_epochs": several(number(above=0), least=0),
    "decay_factor": number(above=0, most=1),
    "lr_update": one_of(("epoch", "step")),
    "clip_norm": number(least=0),
    "ema_decay": number(least=0, below=1),
    "freeze_backbone": flag(),
    "head_lr_scale": number(above=0),
    "max_loss": number(above=0),
}


def check_optimizer(optim: ml_collections.ConfigDict, device_count: int) -> None:
    """Raises a UserError for a value in the section `optim` that cannot be meant."""
    check_settings(optim, "optim", _SETTINGS)
    check_batch_size(optim.batch_size, "optim.batch_size", device_count)
    require(
        optim.warmup_epochs <= optim.epochs,
        "optim.warmup_epochs",
        optim.warmup_epochs,
        f"must be at most optim.epochs={optim.epochs}",
    )
    require(
        optim.batch_size % (optim.grad_accum_steps * device_count) == 0,
        "optim.grad_accum_steps",
        optim.grad_accum_steps,
        f"optim.batch_size={optim.batch_size} must divide into that many parts of a multiple of "
        f"the {device_count} devices",
    )


def learning_rate(optim: ml_collections.ConfigDict, schedule: Schedule) -> optax.Schedule:
    """Linear warm-up into a decay that spans all epochs, warm-up among them.

    In epoch t the learning rate is `warmup_lr + t / warmup_epochs (peak_lr - warmup_lr)`
    during the warm-up, then `min_lr + (peak_lr - min_lr) f`, and `min_lr` after the last epoch,
    where f is `(1 + cos(pi t / epochs)) / 2` for the decay "cosine", `(1 - t / epochs)^poly_power`
    for "poly", and `decay_factor^n` for "steps" when n of `decay_epochs` have passed. With
    `lr_update="epoch"` t is the number of completed epochs, as published; with "step" it grows
    with every step.

    Returns:
      A function from the step (from 0) to the learning rate, float32.
    """

    # The step that begins each epoch; a table, since step * batch may overflow int32.
    epochs = range(1, math.ceil(optim.epochs) + 1)
    begins = np.asarray([schedule.steps(epoch) for epoch in epochs], np.int32)

    def at(step: jax.Array) -> jax.Array:
        if optim.lr_update == "epoch":
            # By comparing with all: the default searches in a loop.
            t = jnp.searchsorted(begins, step, side="right", method="compare_all")
            t = t.astype(jnp.float32)
        else:
            t = step * jnp.float32(schedule.batch_size / schedule.num_examples)
        warmup = optim.warmup_lr + t * (optim.peak_lr - optim.warmup_lr) / max(
            optim.warmup_epochs, 1e-9
        )
        fraction = jnp.minimum(t / optim.epochs, 1.0)
        if optim.decay == "cosine":
            factor = 0.5 * (1.0 + jnp.cos(jnp.pi * fraction))
        elif optim.decay == "poly":
            factor = (1.0 - fraction) ** optim.poly_power
        else:
            passed = sum((t >= epoch).astype(jnp.float32) for epoch in optim.decay_epochs)
            factor = jnp.float32(optim.decay_factor) ** passed
        decayed = optim.min_lr + (optim.peak_lr - optim.min_lr) * factor
        return jnp.where(t < optim.warmup_epochs, warmup, decayed).astype(jnp.float32)

    return at


def make_optimizer(
    optim: ml_collections.ConfigDict, learning_rate: optax.Schedule
) -> optax.GradientTransformation:
    """AdamW with weight decay, after clipping if asked for.

    With `freeze_backbone` all but the head stays as it is; `head_lr_scale` multiplies the
    head's learning rate.
    """
    clip = optax.clip_by_global_norm(optim.clip_norm) if optim.clip_norm else optax.identity()
    adamw = optax.adamw(
        learning_rate,
        weight_decay=optim.weight_decay,
        mask=_UNDECAYED[optim.no_weight_decay],
    )
    if not optim.freeze_backbone and optim.head_lr_scale == 1.0:
        return optax.chain(clip, adamw)
    parts = {
        "head": optax.chain(adamw, optax.scale(optim.head_lr_scale)),
        "backbone": optax.set_to_zero() if optim.freeze_backbone else adamw,
    }
    return optax.chain(clip, optax.partition(parts, _part_of_each))


def _part_of_each(params: dict[str, Any]) -> dict[str, Any]:
    """The top-level name, "backbone" or "head", of every parameter."""
    return {part: jax.tree.map(lambda _, part=part: part, tree) for part, tree in params.items()}
