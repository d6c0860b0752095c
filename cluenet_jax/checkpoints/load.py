"""A trained model from its checkpoint alone."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Sharding

from cluenet_jax import ops
from cluenet_jax.checkpoints.manager import FOLDER, Checkpoints
from cluenet_jax.checkpoints.metadata import Metadata
from cluenet_jax.checkpoints.one_file import SUFFIX, read_metadata, read_variables
from cluenet_jax.checkpoints.storage import absolute
from cluenet_jax.config import config_from_dict
from cluenet_jax.data import (
    Dataset,
    Example,
    Preprocessing,
    batched_by_shape,
    load_dataset,
    shapes_of,
)
from cluenet_jax.errors import UserError
from cluenet_jax.pretrained import list_pretrained, pretrained_file
from cluenet_jax.tasks import create_task
from cluenet_jax.tasks.base import Result, Task


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A trained model: `model.apply(variables, images)`.

    Attributes:
      task: What it was trained for.
      model: The Flax module.
      variables: `{"params": {"backbone": ..., "head": ...}}` and other collections.
      metadata: Of the checkpoint.
    """

    task: Task
    model: nn.Module
    variables: Any
    metadata: Metadata

    @property
    def preprocessing(self) -> Preprocessing:
        """How images are prepared."""
        return self.task.preprocessing

    def _apply(self, variables: Any) -> Callable:
        """From images to the model's output, with the operations' forms for the default device."""
        apply = functools.partial(self.model.apply, variables)
        return ops.traced_for(apply, jax.default_backend())

    @functools.cached_property
    def score(self) -> Callable[[Any, jax.Array, jax.Array], jax.Array]:
        """From variables, normalized images and targets to `[B]` in 0 .. 1, see `Task.score`."""
        return lambda variables, images, targets: self.task.score(
            self._apply(variables), images, targets
        )

    @functools.cached_property
    def best_targets(self) -> Callable[[Any, jax.Array], jax.Array]:
        """From variables and normalized images to int32 `[B]`, see `Task.best_targets`."""
        return lambda variables, images: self.task.best_targets(self._apply(variables), images)

    @functools.cached_property
    def _predict(self) -> Callable:
        def predict(variables: Any, batch: dict[str, jax.Array]) -> Any:
            batch = {**batch, "valid": jnp.ones(len(batch["image"]), bool)}
            return self.task.predict(self._apply(variables), batch)

        return jax.jit(predict)

    def predict(self, examples: Iterable[Example], batch_size: int = 16) -> Iterator[Result]:
        """One result for each image.

        Args:
          examples: Of `task.unlabeled_example`; a program is compiled for each shape of them.
          batch_size: Largest number of images at a time; those in a row that share their shape.
        """
        compiled: dict[tuple, int] = {}
        for batch in batched_by_shape(examples, batch_size):
            # Few programs: a batch is filled up to a power of two, or to one of its shape before.
            power = min(1 << (len(batch) - 1).bit_length(), batch_size)
            shapes = shapes_of(batch[0])
            size = compiled[shapes] = max(power, compiled.get(shapes, 0))
            filled = batch + batch[-1:] * (size - len(batch))
            stacked = jax.tree.map(lambda *arrays: np.stack(arrays), *filled)
            predictions = jax.device_get(self._predict(self.variables, stacked))
            predictions = jax.tree.map(lambda a, n=len(batch): a[:n], predictions)
            yield from self.task.to_results(predictions)

    def with_image_size(self, image_size: int) -> "TrainedModel":
        """The same weights for images of another size, see `Task.set_image_size`."""
        config = config_from_dict(self.metadata.config)
        self.task.set_image_size(config, image_size)
        metadata = dataclasses.replace(self.metadata, config=config.to_dict())
        return dataclasses.replace(self, task=create_task(config, metadata.info), metadata=metadata)

    def dataset(self) -> Dataset:
        """The dataset that it was trained on, to evaluate."""
        data = config_from_dict(self.metadata.config).data
        dataset = load_dataset(data.name, data.dir, data.train_split, data.eval_split)
        return dataclasses.replace(dataset, eval=self.task.eval_source(dataset.eval))


def load(path: str, sharding: Sharding | None = None) -> TrainedModel:
    """Loads the trained model of a checkpoint.

    Args:
      path: A workdir (its best checkpoint is taken, or the latest if none was evaluated), the
        directory of one step, `WORKDIR/checkpoints/STEP`, a file `.safetensors` of the verb
        `export`, or a name of `list_pretrained()`.
      sharding: Of the variables; by default one device holds them.

    Raises:
      UserError: There is no checkpoint there, or none of that step, or it is corrupt.
    """
    if path in list_pretrained():
        return _load_file(pretrained_file(path), sharding)
    workdir, step = absolute(path), None
    if workdir.suffix == SUFFIX and not workdir.is_dir():
        return _load_file(workdir, sharding)
    if workdir.name.isdigit() and workdir.parent.name == FOLDER:
        workdir, step = workdir.parent.parent, int(workdir.name)
    if not (workdir / FOLDER).exists():
        raise UserError(
            f"No checkpoint in {path}: expected the workdir of a run (with a folder "
            f"`{FOLDER}` in it), WORKDIR/{FOLDER}/STEP, a file {SUFFIX} of `python -m cluenet_jax "
            f"export`, or the name of weights in the package: {', '.join(list_pretrained())}."
        )
    with Checkpoints(workdir, read_only=True) as checkpoints:
        return _load_step(checkpoints, path, step, sharding)


def _load_file(path: os.PathLike, sharding: Sharding | None) -> TrainedModel:
    metadata = read_metadata(path)
    task = create_task(config_from_dict(metadata.config), metadata.info)
    model = task.build_model()
    variables = read_variables(path, model)
    return TrainedModel(task, model, jax.device_put(variables, sharding or _one_device()), metadata)


def _load_step(
    checkpoints: Checkpoints, path: str, step: int | None, sharding: Sharding | None
) -> TrainedModel:
    steps = checkpoints.steps()
    if step is None and steps:
        step = checkpoints.best_step() or steps[-1]
    if step not in steps:
        raise UserError(f"No complete checkpoint at {path}; steps there: {steps or 'none'}.")
    try:
        metadata = checkpoints.metadata(step)
    except Exception as error:  # Whatever a corrupt file makes Orbax raise.
        raise _unreadable(path, step, steps, error) from error
    task = create_task(config_from_dict(metadata.config), metadata.info)
    model = task.build_model()
    like = _abstract_variables(model, task, sharding or _one_device())
    try:
        variables = checkpoints.restore(step, variables=like)["variables"]
    except Exception as error:
        raise _unreadable(path, step, steps, error) from error
    return TrainedModel(task, model, variables, metadata)


def _one_device() -> Sharding:
    return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])


def _unreadable(path: str, step: int, steps: list[int], error: Exception) -> UserError:
    left = [other for other in steps if other != step]
    return UserError(
        f"The checkpoint of step {step} in {path} cannot be read "
        f"({' '.join(str(error).split())[:200]}); other steps there: {left or 'none'}."
    )


def _abstract_variables(model: nn.Module, task: Task, sharding: Sharding) -> Any:
    images = jax.ShapeDtypeStruct((1, *task.image_shape), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), variables
    )
