"""The programs of a run and the sharding of what they work on: what training runs, and compile."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import optax
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding

from cluenet_jax import ops
from cluenet_jax.data import DatasetInfo
from cluenet_jax.evaluation import make_eval_step
from cluenet_jax.tasks import create_task
from cluenet_jax.tasks.base import Batch, Task
from cluenet_jax.train import sharding
from cluenet_jax.train.optimizer import learning_rate, make_optimizer
from cluenet_jax.train.schedule import Schedule
from cluenet_jax.train.state import TrainState, create_state, zero_sums
from cluenet_jax.train.step import make_train_step


@dataclasses.dataclass(frozen=True)
class Programs:
    """Jitted functions of a run.

    Attributes:
      config: The whole configuration, checked.
      task, model: What is trained.
      schedule: Relation of steps and epochs.
      mesh: The devices, which need not be of this machine.
    """

    config: ml_collections.ConfigDict
    task: Task
    model: nn.Module
    schedule: Schedule
    mesh: Mesh

    @classmethod
    def create(
        cls, config: ml_collections.ConfigDict, info: DatasetInfo, num_examples: int, mesh: Mesh
    ) -> "Programs":
        """The programs for a dataset of `num_examples` to train on."""
        task = create_task(config, info)
        schedule = Schedule(num_examples, config.optim.batch_size)
        return cls(config, task, task.build_model(), schedule, mesh)

    @functools.cached_property
    def _learning_rate(self) -> optax.Schedule:
        return learning_rate(self.config.optim, self.schedule)

    @functools.cached_property
    def _optimizer(self) -> optax.GradientTransformation:
        return make_optimizer(self.config.optim, self._learning_rate)

    @functools.cached_property
    def replicated(self) -> NamedSharding:
        """A full copy on every device."""
        return sharding.replicated(self.mesh)

    def sharding(self, tree: Any) -> Any:
        """Of parameters and optimizer state: one for all arrays, or a tree."""
        sharded = self.config.train.shard_params
        return sharding.fsdp_sharding(self.mesh, tree) if sharded else self.replicated

    def _gather(self, tree: Any) -> Any:
        """Sharded arrays, whole on every device."""
        return sharding.gathered(self.mesh, tree) if self.config.train.shard_params else tree

    def _traced(self, function: Callable) -> Callable:
        """The function with the operations' forms for these devices alone."""
        return ops.traced_for(function, self.mesh.devices.flat[0].platform)

    def create_state(self) -> TrainState:
        """A state of random weights."""
        return self._traced(self._create_state)(self.sharding)

    def state_spec(self) -> TrainState:
        """Shapes, types and sharding of a state; nothing is computed."""
        shapes = jax.eval_shape(lambda: self._traced(self._create_state)(lambda _: None))
        return with_sharding(shapes, self.sharding(shapes))

    def batch_spec(self, batch_size: int, train: bool = True) -> Batch:
        """Shapes, types and sharding of a batch over all devices; nothing is read."""
        spec = self.task.example_spec() if train else self.task.eval_spec()
        example = {**spec, "valid": jax.ShapeDtypeStruct((), bool)}
        batch = {
            key: jax.ShapeDtypeStruct((batch_size, *array.shape), array.dtype)
            for key, array in example.items()
        }
        return with_sharding(batch, sharding.split_batch(self.mesh))

    def _create_state(self, sharding: Callable[[TrainState], Any]) -> TrainState:
        return create_state(
            self.model,
            self._optimizer,
            self.task.image_shape,
            self.task.train_metrics,
            self.config.seed,
            sharding,
            ema=self.config.optim.ema_decay > 0,
        )

    def train_step(self, state: TrainState) -> Callable:
        """The training step, which keeps the sharding of states like `state`."""
        step = make_train_step(
            self.task,
            self.model,
            self._optimizer,
            self._learning_rate,
            self.config.optim,
            self.config.seed,
            self._gather,
        )
        out_shardings = (self.sharding(state), self.replicated)
        return jax.jit(self._traced(step), donate_argnums=0, out_shardings=out_shardings)

    @functools.cached_property
    def eval_step(self) -> Callable:
        """The evaluation step; its results are on every device."""
        step = make_eval_step(self.task, self.model)

        def eval_step(variables: Any, batch: Batch) -> Any:
            return step(self._gather(variables), batch)

        return jax.jit(self._traced(eval_step), out_shardings=self.replicated)

    @functools.cached_property
    def zero_sums(self) -> Callable:
        """Empty metric sums, on all devices."""
        names = self.task.train_metrics
        return jax.jit(lambda: zero_sums(names), out_shardings=self.replicated)


def with_sharding(shapes: Any, shardings: Any) -> Any:
    """Shapes with their sharding: one for all arrays, or a tree like `shapes`."""
    if isinstance(shardings, jax.sharding.Sharding):
        shardings = jax.tree.map(lambda _: shardings, shapes)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        shardings,
    )
