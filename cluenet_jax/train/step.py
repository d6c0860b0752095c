"""One step of training of any task, as a pure function to be jitted."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax import linen as nn

from cluenet_jax.tasks.base import Batch, Means, Task
from cluenet_jax.train.state import TrainState

Metrics = dict[str, jax.Array]
# The loss, the task's means, and the model's other collections afterwards.
_Outputs = tuple[jax.Array, Means, Any]


def make_train_step(
    task: Task,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    learning_rate: optax.Schedule,
    optim: ml_collections.ConfigDict,
    seed: int,
    gather: Callable[[Any], Any] = lambda tree: tree,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The training step: augment, forward, backward, update.

    Args:
      task, model, optimizer, learning_rate, seed: What is trained, and how.
      optim: The settings of that name.
      gather: What makes sharded parameters and other collections whole.

    The step takes a state and a batch and returns the next state and this step's means of the
    task's metrics, `lr`, `grad_norm` and `skipped` (0 or 1). A step whose loss or gradient is
    not finite, or whose loss is above `optim.max_loss`, changes nothing but the
    step count and the counts of skipped steps.
    """
    seed_key = jax.random.key(seed)
    compute = _accumulated(_make_grad(task, model), optim.grad_accum_steps)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(seed_key, state.step))
        # Scopes name operations where programs are read: `python -m cluenet_jax compile`.
        with jax.named_scope("augment"):
            batch = task.augment(augment_key, batch)
        (loss, means, model_state), grads = compute(
            *gather((state.params, state.model_state)), dropout_key, batch
        )
        grad_norm = optax.tree.norm(grads)
        usable = jnp.isfinite(grad_norm) & (loss <= optim.max_loss)

        with jax.named_scope("optimizer"):
            updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
        ema = (state.ema_params, state.ema_model_state)
        if state.ema_params is not None:
            ema = _averaged((params, model_state), ema, optim.ema_decay)
        after = state.replace(
            params=params,
            model_state=model_state,
            opt_state=opt_state,
            metric_sums=jax.tree.map(jnp.add, state.metric_sums, means),
            ema_params=ema[0],
            ema_model_state=ema[1],
        )
        after = jax.tree.map(lambda new, old: jnp.where(usable, new, old), after, state)
        skipped = 1 - usable.astype(jnp.int32)
        after = after.replace(
            step=state.step + 1,
            num_skipped=state.num_skipped + skipped,
            consecutive_skips=(state.consecutive_skips + 1) * skipped,
        )
        metrics = {name: total / count for name, (total, count) in means.items()}
        metrics |= {
            "loss": loss,
            "lr": learning_rate(state.step),
            "grad_norm": grad_norm,
            "skipped": skipped,
        }
        return after, metrics

    return train_step


def _averaged(new: Any, average: Any, decay: float) -> Any:
    """Exponential moving averages; of integers, such as counts of batches, the last ones."""

    def update(new: jax.Array, old: jax.Array) -> jax.Array:
        if not jnp.issubdtype(new.dtype, jnp.floating):
            return new
        # What never changes, such as frozen weights, is not rounded either.
        return jnp.where(new == old, old, optax.incremental_update(new, old, 1 - decay))

    return jax.tree.map(update, new, average)


def _make_grad(task: Task, model: nn.Module) -> Callable[..., tuple[_Outputs, Any]]:
    """From parameters, other collections, a key and a batch to outputs and gradients."""

    def loss_fn(params: Any, model_state: Any, key: jax.Array, batch: Batch):
        updated = dict(model_state)

        def apply(images: jax.Array, **options: Any) -> Any:
            output, changes = model.apply(
                {"params": params, **updated},
                images,
                train=True,
                rngs={"dropout": key},
                mutable=[*updated],
                **options,
            )
            updated.update(changes)
            return output

        with jax.named_scope("loss"):
            loss, means = task.loss(apply, batch)
        return loss, (means, updated)

    grad_fn = jax.value_and_grad(loss_fn, has_aux=True)

    def compute(params: Any, model_state: Any, key: jax.Array, batch: Batch):
        (loss, (means, model_state)), grads = grad_fn(params, model_state, key, batch)
        return (loss, means, model_state), grads

    return compute


def _accumulated(compute: Callable, parts: int) -> Callable:
    """Gradient accumulation: parts of a batch one after the other; losses and gradients averaged.

    Part i is every `parts`-th example from i on, so that each is on all devices.
    """
    if parts == 1:
        return compute

    def over_parts(params: Any, model_state: Any, key: jax.Array, batch: Batch):
        def split(x: jax.Array) -> jax.Array:
            return jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1)

        def add(total: tuple, part: tuple[jax.Array, Batch]) -> tuple[tuple, None]:
            sums, model_state = total
            (loss, means, model_state), grads = compute(params, model_state, *part)
            return (jax.tree.map(jnp.add, sums, (loss, means, grads)), model_state), None

        inputs = (jax.random.split(key, parts), jax.tree.map(split, batch))
        first = jax.tree.map(lambda x: x[0], inputs)
        (loss, means, _), grads = jax.eval_shape(compute, params, model_state, *first)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (loss, means, grads))
        (sums, model_state), _ = jax.lax.scan(add, (zeros, model_state), inputs)
        loss, means, grads = sums
        loss, grads = jax.tree.map(lambda x: x / parts, (loss, grads))
        return (loss, means, model_state), grads

    return over_parts
