"""What training changes from step to step, and how it begins."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct

from cluenet_jax.tasks.base import Means


class TrainState(struct.PyTreeNode):
    """Everything a checkpoint must hold to resume exactly.

    Random numbers are drawn from the seed and the step, and the data's position
    is the step, so neither is stored.

    Attributes:
      step: int32, steps taken.
      params: The model's parameters, float32.
      model_state: Its other collections, such as `batch_stats`; empty if it has none.
      opt_state: The optimizer's state.
      num_skipped: int32, steps whose loss or gradient was not usable.
      consecutive_skips: int32, of them the last ones without a usable step between.
      metric_sums: Sums and counts of the task's metrics since the last record, float32.
      ema_params, ema_model_state: Exponential moving averages, None if not kept.
    """

    step: jax.Array
    params: Any
    model_state: Any
    opt_state: optax.OptState
    num_skipped: jax.Array
    consecutive_skips: jax.Array
    metric_sums: Means
    ema_params: Any
    ema_model_state: Any

    @property
    def eval_params(self) -> Any:
        """The parameters to evaluate and to use, the average if there is one."""
        return self.params if self.ema_params is None else self.ema_params

    @property
    def eval_variables(self) -> dict[str, Any]:
        """The variables to evaluate and to use, for `model.apply`."""
        averaged = self.ema_params is not None
        return {
            "params": self.eval_params,
            **(self.ema_model_state if averaged else self.model_state),
        }

    def to_items(self) -> dict[str, Any]:
        """The items of a checkpoint: `variables`, and under `train` all that they leave out."""
        return {
            "variables": self.eval_variables,
            "train": {name: getattr(self, name) for name in self._train_fields()},
        }

    def from_items(self, items: dict[str, Any]) -> "TrainState":
        """A state of the form of this one, from the items of a checkpoint."""
        variables = dict(items["variables"])
        params = variables.pop("params")
        if self.ema_params is None:
            return self.replace(params=params, model_state=variables, **items["train"])
        return self.replace(ema_params=params, ema_model_state=variables, **items["train"])

    def _train_fields(self) -> list[str]:
        evaluated = ("params", "model_state")
        ema = ("ema_params", "ema_model_state")
        left_out = {*ema, *(evaluated if self.ema_params is None else ())}
        names = [field.name for field in dataclasses.fields(self) if field.name not in left_out]
        # Orbax saves no empty trees.
        return [name for name in names if jax.tree.leaves(getattr(self, name))]


def zero_sums(names: Sequence[str]) -> Means:
    """Metric sums of no examples."""
    return {name: (jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32)) for name in names}


def create_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, int, int],
    metric_names: Sequence[str],
    seed: int,
    sharding: Callable[[TrainState], Any],
    ema: bool = False,
) -> TrainState:
    """Initializes a state, directly with its sharding.

    Args:
      model: Of `Task.build_model`.
      optimizer: Of `make_optimizer`.
      image_shape: Height, width and channels of an image.
      metric_names: The task's `train_metrics`.
      seed: Of the initial weights.
      sharding: From the shapes of a state to its sharding: one for all arrays, or a tree.
      ema: Whether averages are kept.
    """

    def init(key: jax.Array) -> TrainState:
        images = jnp.zeros((1, *image_shape), jnp.float32)
        model_state = dict(model.init(key, images))
        params = model_state.pop("params")
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            model_state=model_state,
            opt_state=optimizer.init(params),
            num_skipped=jnp.zeros((), jnp.int32),
            consecutive_skips=jnp.zeros((), jnp.int32),
            metric_sums=zero_sums(metric_names),
            ema_params=params if ema else None,
            ema_model_state=model_state if ema else None,
        )

    key = jax.random.key(seed)
    return jax.jit(init, out_shardings=sharding(jax.eval_shape(init, key)))(key)
