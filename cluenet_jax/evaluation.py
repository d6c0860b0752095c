"""The only loop over an evaluation set: metrics of a model, every example counted once."""

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import jax
import ml_collections
from flax import linen as nn
from jax.sharding import Mesh

from cluenet_jax import ops
from cluenet_jax.check import check_config
from cluenet_jax.checkpoints.load import load
from cluenet_jax.config import config_from_dict
from cluenet_jax.data import Source, eval_batches, load_dataset
from cluenet_jax.errors import UserError
from cluenet_jax.progress import announce_compiling, bar
from cluenet_jax.tasks import create_task
from cluenet_jax.tasks.base import Batch, Evaluator, Task
from cluenet_jax.train import sharding


def make_eval_step(task: Task, model: nn.Module) -> Callable[[Any, Batch], dict[str, Any]]:
    """The evaluation step: from variables and a batch to what an evaluator adds.

    Returns:
      A function to be jitted: `predictions` of the task, and `batch` without what is as large as
      images.
    """

    def eval_step(variables: Any, batch: Batch) -> dict[str, Any]:
        predictions = task.predict(functools.partial(model.apply, variables), batch)
        truth = {name: array for name, array in batch.items() if array.ndim < 3}
        return {"predictions": predictions, "batch": truth}

    return eval_step


def evaluate(
    task: Task, eval_step: Callable, variables: Any, batches: Iterable[Batch]
) -> Evaluator:
    """Streams a set through a model.

    Args:
      task: Whose evaluator counts.
      eval_step: Jitted, of `make_eval_step`, its results on every process.
      variables: Of the model.
      batches: Of `read_eval_set`, padded, on the devices.
    """
    evaluator = task.evaluator()
    # Results are read when the next batch is on its way, so that devices never wait for the host.
    pending = None
    for batch in itertools.chain(batches, [None]):
        result = None if batch is None else eval_step(variables, batch)
        if pending is not None:
            evaluator.add(**jax.device_get(pending))
        pending = result
    return evaluator


def example_shapes(task: Task, source: Source) -> list[Hashable] | None:
    """For each record what tells apart those whose examples differ in shape; None if none do."""
    if task.eval_shape is None:
        return None
    indices = bar(range(len(source)), "Sizes of the evaluation set", len(source))
    return [task.eval_shape(source[index]) for index in indices]


def read_eval_set(
    task: Task,
    source: Source,
    batch_size: int,
    mesh: Mesh,
    shapes: Sequence[Hashable] | None,
    cache: dict[int, Any] | None = None,
) -> Iterable[Batch]:
    """Every example once, those of a shape in order, on the devices.

    Args:
      task: Whose `eval_example` reads a record.
      source: The evaluation split.
      batch_size: Over all processes.
      mesh: The devices.
      shapes: Of `example_shapes`, which reads every record: once is enough.
      cache: A dict that keeps decoded examples between calls.
    """
    batches = eval_batches(
        source,
        task.eval_example,
        batch_size=batch_size,
        shapes=shapes,
        cache=cache,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    for batch in bar(batches, "Evaluation", len(source), _num_images):
        yield sharding.to_devices(batch, mesh)


def _num_images(batch: Batch) -> int:
    # Of all processes, which have about as many each.
    return int(batch["valid"].sum()) * jax.process_count()


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A full evaluation, with its speed.

    Attributes:
      evaluator: With every example added.
      images_per_s_device: Of the model alone, its input on the device.
      images_per_s_end_to_end: With reading and decoding.
    """

    evaluator: Evaluator
    images_per_s_device: float
    images_per_s_end_to_end: float

    def to_json(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and dicts."""
        return {
            **self.evaluator.to_json(),
            "images_per_s_device": self.images_per_s_device,
            "images_per_s_end_to_end": self.images_per_s_end_to_end,
        }

    def to_text(self) -> str:
        """A table for people."""
        return (
            f"{self.evaluator.to_text()}\nimages/s: {self.images_per_s_device:.0f} on the device "
            f"alone, {self.images_per_s_end_to_end:.0f} with reading"
        )


def evaluate_checkpoint(path: str, config: ml_collections.ConfigDict | None = None) -> Evaluation:
    """Metrics of a checkpoint on an evaluation set, and how fast it runs.

    Args:
      path: Of a checkpoint, or its name, as `load` takes it.
      config: Whose `data` and `eval` are used; the checkpoint's own if None.

    Raises:
      UserError: No checkpoint there, or its targets are not the data's.
    """
    mesh = sharding.make_mesh()
    everywhere = sharding.replicated(mesh)
    trained = load(path, everywhere)
    own = config_from_dict(trained.metadata.config)
    config = config or own
    check_config(config, jax.device_count())
    data = config.data
    dataset = load_dataset(data.name, data.dir, data.train_split, data.eval_split)
    # The model and its normalization are the checkpoint's, the rest is the configuration's.
    own.data, own.eval = config.data, config.eval
    names = create_task(own, dataset.info).target_names
    _check_targets(path, trained.task.target_names, names, data.name)
    info = dataclasses.replace(
        dataset.info, mean=trained.metadata.info.mean, std=trained.metadata.info.std
    )
    task = create_task(own, info)
    step = ops.traced_for(make_eval_step(task, trained.model), jax.default_backend())
    jitted = jax.jit(step, out_shardings=everywhere)
    eval_step = announce_compiling(jitted, "evaluation step")
    source = task.eval_source(dataset.eval)
    shapes = example_shapes(task, source)
    read = functools.partial(read_eval_set, task, source, config.eval.batch_size, mesh, shapes)
    return _measured(task, eval_step, trained.variables, read, len(source))


def _check_targets(path: str, ours: tuple[str, ...], theirs: tuple[str, ...], dataset: str) -> None:
    # Converted checkpoints may know their targets by number only.
    unnamed = tuple(str(number) for number in range(len(theirs)))
    if ours not in (theirs, unnamed):
        raise UserError(
            f"The checkpoint {path} knows {len(ours)} targets ({', '.join(ours[:3])}, ...); "
            f"{dataset} has {len(theirs)} ({', '.join(theirs[:3])}, ...)."
        )


def _measured(
    task: Task,
    eval_step: Callable,
    variables: Any,
    read: Callable[[], Iterable[Batch]],
    num_examples: int,
) -> Evaluation:
    batch = next(iter(read()))
    jax.block_until_ready(eval_step(variables, batch))  # Compiles.
    repeats, start = 0, time.perf_counter()
    while repeats < 3 or time.perf_counter() - start < 1.0:
        jax.block_until_ready(eval_step(variables, batch))
        repeats += 1
    device = repeats * batch["valid"].size / (time.perf_counter() - start)

    start = time.perf_counter()
    evaluator = evaluate(task, eval_step, variables, read())
    return Evaluation(evaluator, device, num_examples / (time.perf_counter() - start))
