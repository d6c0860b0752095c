"""The loop over steps, for any task: it schedules, the work is done elsewhere."""

import contextlib
import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from etils import epath

from cluenet_jax.check import check_config
from cluenet_jax.checkpoints.lock import lock_workdir
from cluenet_jax.checkpoints.manager import Checkpoints
from cluenet_jax.checkpoints.metadata import Metadata
from cluenet_jax.data import Dataset, TrainBatches, load_dataset, train_batches
from cluenet_jax.evaluation import evaluate, example_shapes, read_eval_set
from cluenet_jax.progress import announce_compiling
from cluenet_jax.tasks import create_task
from cluenet_jax.tasks.base import Batch, Task
from cluenet_jax.train import sharding
from cluenet_jax.train.diagnose import check_skips
from cluenet_jax.train.finetune import initial_variables
from cluenet_jax.train.metric_writer import MetricWriter
from cluenet_jax.train.preemption import watch_for_signals
from cluenet_jax.train.programs import Programs
from cluenet_jax.train.resume import resume
from cluenet_jax.train.schedule import Schedule
from cluenet_jax.train.state import TrainState

_LOG = logging.getLogger(__name__)


def train_and_evaluate(config: ml_collections.ConfigDict, workdir: str) -> dict[str, float]:
    """Trains to the end of the configured epochs, resuming from what is in `workdir`.

    Args:
      config: Of `cluenet_jax.config.default_config`, with a recipe's values.
      workdir: For checkpoints and metrics; a folder that all processes share.

    Returns:
      The last metrics on the evaluation set.

    Raises:
      UserError: The config cannot run, data is missing, `workdir` holds another run or is
        in use, a checkpoint cannot be written, or the numbers are no longer finite.
      Interrupted: SIGTERM or Ctrl-C came; everything is saved.
    """
    check_config(config, jax.device_count())
    run = _Run.create(config)
    main_process = jax.process_index() == 0
    path = epath.Path(workdir)
    state = run.initial_state()
    lock = lock_workdir(path, main_process)
    checkpoints = Checkpoints(path, config.checkpoint.keep_latest, config.checkpoint.keep_best)
    metadata = Metadata.of_run(config, run.dataset.info, run.task.best_metric)
    state, metrics = resume(checkpoints, state, metadata, path)
    start_step = int(state.step)
    run.log_start(state, start_step)

    batches = run.train_batches(start_step)
    writer = MetricWriter(
        path, start_step, run.total_steps, config.optim.batch_size, active=main_process
    )
    train_step = announce_compiling(run.programs.train_step(state), "training step", writer.log)
    eval_step = announce_compiling(run.programs.eval_step, "evaluation step", writer.log)
    with (
        lock,
        checkpoints,
        contextlib.closing(writer),
        contextlib.closing(batches),
        watch_for_signals() as preemption,
    ):
        inputs = run.to_devices(batches)
        for step in range(start_step + 1, run.total_steps + 1):
            with writer.time_input():
                batch = next(inputs)
            state, step_metrics = train_step(state, batch)
            logged = step % config.train.log_every == 0
            writer.step(step, step_metrics if logged else None)
            if logged:
                check_skips(config, state, run.task, run.programs.model, batch, path)

            last = step == run.total_steps
            if last or run.schedule.due(step, 1.0):
                writer.write(step, **run.epoch_means(state, step, batches))
                state = state.replace(metric_sums=run.programs.zero_sums())
            evaluated = last or run.schedule.due(step, config.eval.every)
            if evaluated:
                begin = time.perf_counter()
                metrics = run.evaluate(eval_step, state)
                seconds = time.perf_counter() - begin
                writer.write(step, **{f"eval/{name}": value for name, value in metrics.items()})
                writer.log(f"{run.summary(step, metrics)} ({seconds:.1f} s)")
            stop = preemption.requested(step)
            if evaluated or stop or run.schedule.due(step, config.checkpoint.every):
                # A run that resumes from here must find all earlier records.
                writer.sync()
                at_step = {"step": step, "metrics": metrics if evaluated else {}}
                checkpoints.save(dataclasses.replace(metadata, **at_step), **state.to_items())
            if stop and not last:
                checkpoints.wait()
                raise preemption.error(step, path)
    return metrics


@dataclasses.dataclass(frozen=True)
class _Run:
    """The parts of a run that do not change, and what the loop does with them."""

    config: ml_collections.ConfigDict
    dataset: Dataset
    programs: Programs
    total_steps: int
    eval_cache: dict[int, Any] | None

    @classmethod
    def create(cls, config: ml_collections.ConfigDict) -> "_Run":
        data = config.data
        dataset = load_dataset(data.name, data.dir, data.train_split, data.eval_split)
        task = create_task(config, dataset.info)
        dataset = dataclasses.replace(
            dataset, train=task.train_source(dataset.train), eval=task.eval_source(dataset.eval)
        )
        programs = Programs.create(config, dataset.info, len(dataset.train), sharding.make_mesh())
        epochs = config.optim.epochs + config.optim.cooldown_epochs
        total_steps = config.train.max_steps or programs.schedule.steps(epochs)
        return cls(config, dataset, programs, total_steps, {} if data.cache else None)

    @property
    def task(self) -> Task:
        """The task."""
        return self.programs.task

    @functools.cached_property
    def eval_shapes(self) -> list[Hashable] | None:
        """Of the evaluation set."""
        return example_shapes(self.task, self.dataset.eval)

    @property
    def schedule(self) -> Schedule:
        """Relation of steps and epochs."""
        return self.programs.schedule

    def initial_state(self) -> TrainState:
        """Random weights, or those of `config.init`."""
        programs = self.programs
        state = programs.create_state()
        variables = {"params": state.params, **state.model_state}
        taken = initial_variables(self.config, variables, programs.replicated)
        if taken is None:
            return state
        taken = jax.device_put(taken, programs.sharding(taken))
        params = taken.pop("params")
        # Copied, since a step donates its input.
        ema = jax.tree.map(jnp.copy, (params, taken))
        if state.ema_params is None:
            ema = (None, None)
        return state.replace(
            params=params, model_state=taken, ema_params=ema[0], ema_model_state=ema[1]
        )

    def train_batches(self, start_step: int) -> TrainBatches:
        """Batches of this process from the one after `start_step` on."""
        data = self.config.data
        return train_batches(
            self.dataset.train,
            self.task.train_example,
            batch_size=self.config.optim.batch_size,
            seed=self.config.seed,
            start_step=start_step,
            num_workers=data.num_workers,
            num_repeats=data.num_repeats,
            groups=self.task.train_groups(self.dataset.train),
            max_corrupt_fraction=data.max_corrupt_fraction,
            cache=data.cache,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def to_devices(self, batches: TrainBatches) -> Iterator[Batch]:
        """The same batches on the devices."""
        for batch in batches:
            yield sharding.to_devices(batch, self.programs.mesh)

    def evaluate(self, eval_step: Callable, state: TrainState) -> dict[str, float]:
        """Metrics of the evaluation set, by the programs' evaluation step."""
        batches = read_eval_set(
            self.task,
            self.dataset.eval,
            self.config.eval.batch_size,
            self.programs.mesh,
            self.eval_shapes,
            self.eval_cache,
        )
        return evaluate(self.task, eval_step, state.eval_variables, batches).compute()

    def epoch_means(self, state: TrainState, step: int, batches: TrainBatches) -> dict[str, float]:
        """The record of an epoch: means over the examples since the last one."""
        sums = jax.device_get(state.metric_sums)
        means = {f"train/{k}": float(s) / max(float(n), 1.0) for k, (s, n) in sums.items()}
        corrupt = {"train/corrupt_images": len(batches.corrupt)} if batches.corrupt else {}
        skipped = int(state.num_skipped)
        return {
            "epoch": self.schedule.epoch(step),
            **means,
            "train/skipped_steps": skipped,
            **corrupt,
        }

    def summary(self, step: int, metrics: dict[str, float]) -> str:
        """A line on an evaluation."""
        best = self.task.best_metric
        return (
            f"epoch {self.schedule.epoch(step):.1f}, step {step}: eval {best} "
            f"{metrics[best]:.2%}, "
            + ", ".join(f"{name} {value:.4g}" for name, value in metrics.items() if name != best)
        )

    def log_start(self, state: TrainState, start_step: int) -> None:
        """Logs what is trained on what."""
        parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        _LOG.info(
            "%s, %s parameters, %s on %s: %s train, %s eval images; %d %s devices",
            self.config.model.backbone,
            f"{parameters:,}",
            self.task.name,
            self.config.data.name,
            f"{len(self.dataset.train):,}",
            f"{len(self.dataset.eval):,}",
            jax.device_count(),
            jax.default_backend(),
        )
        if start_step >= self.total_steps:
            _LOG.info("All %d steps are done: nothing to train.", self.total_steps)
        elif start_step:
            _LOG.info("Resuming after step %d of %d.", start_step, self.total_steps)
