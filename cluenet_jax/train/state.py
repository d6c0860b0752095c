"""What training changes from step to step, and how it begins."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct

# Sums over the examples seen since the last report.
TOTALS = ("loss", "correct", "count")


class TrainState(struct.PyTreeNode):
    """Everything a checkpoint must hold to go on exactly.

    Random numbers are drawn from the seed and the step, and the data's position
    is the step, so neither is stored.

    Attributes:
      step: int32, steps taken.
      params: The network's parameters, float32.
      opt_state: The optimiser's state.
      skipped: int32, steps whose loss or gradient was not usable.
      skipped_in_a_row: int32, of them the last ones without a usable step between.
      totals: Sums of `TOTALS` since the last report, float32.
      average: Exponential moving average of the parameters, None if not kept.
    """

    step: jax.Array
    params: Any
    opt_state: optax.OptState
    skipped: jax.Array
    skipped_in_a_row: jax.Array
    totals: dict[str, jax.Array]
    average: Any

    @property
    def tested_params(self) -> Any:
        """The parameters to test and to use: the average if there is one."""
        return self.params if self.average is None else self.average


def zero_totals() -> dict[str, jax.Array]:
    """Totals of no examples."""
    return {name: jnp.zeros((), jnp.float32) for name in TOTALS}


def create_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    image_size: int,
    seed: int,
    place: Callable[[TrainState], Any],
    average: bool = False,
) -> TrainState:
    """Draws first weights, directly where they shall live.

    Args:
      model: A network of `create_model`.
      optimizer: Of `make_optimizer`.
      image_size: Side of the square images, pixels.
      seed: Of the first weights.
      place: From the shapes of a state to where its arrays live: one sharding, or a tree.
      average: Whether to keep an average of the parameters.
    """

    def init(key: jax.Array) -> TrainState:
        images = jnp.zeros((1, image_size, image_size, 3), jnp.float32)
        params = model.init(key, images)["params"]
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            opt_state=optimizer.init(params),
            skipped=jnp.zeros((), jnp.int32),
            skipped_in_a_row=jnp.zeros((), jnp.int32),
            totals=zero_totals(),
            average=params if average else None,
        )

    key = jax.random.key(seed)
    return jax.jit(init, out_shardings=place(jax.eval_shape(init, key)))(key)
