"""AdamW and the published learning rate schedule."""

import math

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from cluenet_jax.train.clock import Clock

# The module of a network that depends on the classes.
HEAD = "head"


def learning_rate(optim: ml_collections.ConfigDict, clock: Clock) -> optax.Schedule:
    """Linear warm-up into a cosine that spans all epochs, warm-up among them.

    In epoch t the rate is `warmup_lr + t / warmup_epochs (peak_lr - warmup_lr)`
    during the warm-up, then
    `final_lr + (peak_lr - final_lr) (1 + cos(pi t / epochs)) / 2`, and
    `final_lr` after the last epoch. With `lr_per="epoch"` t is the number of
    whole epochs over, as published; with "step" it grows with every step.

    Returns:
      A function from the step (from 0) to the rate, float32.
    """

    # The step that begins each epoch; a table, since step * batch may overflow int32.
    begins = np.asarray([clock.steps(e) for e in range(1, math.ceil(optim.epochs) + 1)], np.int32)

    def rate(step: jax.Array) -> jax.Array:
        if optim.lr_per == "epoch":
            t = jnp.searchsorted(begins, step, side="right").astype(jnp.float32)
        else:
            t = step * jnp.float32(clock.batch_size / clock.num_examples)
        warmup = optim.warmup_lr + t * (optim.peak_lr - optim.warmup_lr) / max(
            optim.warmup_epochs, 1e-9
        )
        fraction = jnp.minimum(t / optim.epochs, 1.0)
        cosine = 0.5 * (1.0 + jnp.cos(jnp.pi * fraction))
        decayed = optim.final_lr + (optim.peak_lr - optim.final_lr) * cosine
        return jnp.where(t < optim.warmup_epochs, warmup, decayed).astype(jnp.float32)

    return rate


def make_optimizer(
    optim: ml_collections.ConfigDict, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """AdamW with weight decay, after clipping if asked for.

    With `freeze_backbone` all but the head stays as it is; `head_lr_scale`
    multiplies the head's rate.
    """
    clip = optax.clip_by_global_norm(optim.clip_norm) if optim.clip_norm else optax.identity()
    mask = weights_only if optim.decay == "weights" else None
    adamw = optax.adamw(schedule, weight_decay=optim.weight_decay, mask=mask)
    if not optim.freeze_backbone and optim.head_lr_scale == 1.0:
        return optax.chain(clip, adamw)
    parts = {
        "head": optax.chain(adamw, optax.scale(optim.head_lr_scale)),
        "backbone": optax.set_to_zero() if optim.freeze_backbone else adamw,
    }
    return optax.chain(clip, optax.partition(parts, _part_of_each))


def weights_only(params: dict) -> dict:
    """True for matrices and kernels, False for norms, biases and scalars."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _part_of_each(params: dict) -> dict:
    """ "head" or "backbone" for every parameter."""

    def label(name: str, tree: dict) -> dict:
        part = "head" if name == HEAD else "backbone"
        return jax.tree.map(lambda _: part, tree)

    return {name: label(name, tree) for name, tree in params.items()}
