"""The loop over steps: it schedules, the work is done elsewhere."""

import contextlib
import logging

import jax
import jax.numpy as jnp
import ml_collections
from etils import epath
from flax import traverse_util

from cluenet_jax.config import check_config, model_from_config
from cluenet_jax.data import Dataset, load_dataset
from cluenet_jax.errors import UserError
from cluenet_jax.train import checkpoint, sharding
from cluenet_jax.train.clock import Clock
from cluenet_jax.train.diagnose import first_not_finite
from cluenet_jax.train.evaluate import Evaluation, evaluate_fully, predict_all
from cluenet_jax.train.feed import open_feed, test_batches
from cluenet_jax.train.interrupt import watch_for_signals
from cluenet_jax.train.lock import lock_workdir
from cluenet_jax.train.optim import HEAD, learning_rate, make_optimizer
from cluenet_jax.train.report import Report
from cluenet_jax.train.state import TrainState, create_state, zero_totals
from cluenet_jax.train.steps import make_eval_step, make_train_step

_LOG = logging.getLogger(__name__)
# Sections that must not change when a run goes on.
_FIXED = ("seed", "init_from", "model", "data", "optim")


def train_and_evaluate(config: ml_collections.ConfigDict, workdir: str) -> dict[str, float]:
    """Trains to the end of the configured epochs, going on from where `workdir` stands.

    Args:
      config: Of `cluenet_jax.config.default_config`, with a recipe's values.
      workdir: Checkpoints and metrics go here; a folder that all processes share.

    Returns:
      The last scores on the test set: `loss`, `top1`, `top3`, `top5`, `count`.

    Raises:
      UserError: The config cannot run, data is missing, `workdir` holds another run or is
        in use, a checkpoint cannot be written, or the numbers are no longer finite.
      Interrupted: SIGTERM or Ctrl-C came; everything is saved.
    """
    check_config(config, jax.device_count())
    data = config.data
    dataset = load_dataset(data.name, data.dir, data.train_split, data.test_split)
    clock = Clock(len(dataset.train), config.optim.batch_size)
    total_steps = config.train.max_steps or clock.steps(
        config.optim.epochs + config.optim.cooldown_epochs
    )

    mesh = sharding.make_mesh()
    model = model_from_config(config, dataset.num_classes)
    schedule = learning_rate(config.optim, clock)
    optimizer = make_optimizer(config.optim, schedule)
    everywhere = sharding.replicated(mesh)

    def place(shapes: TrainState):
        return sharding.spread(mesh, shapes) if config.train.shard_params else everywhere

    eval_step = jax.jit(make_eval_step(model, dataset.mean, dataset.std), out_shardings=everywhere)
    state = create_state(
        model, optimizer, data.image_size, config.seed, place, config.optim.ema_decay > 0
    )
    train_step = jax.jit(
        make_train_step(model, optimizer, schedule, config, dataset),
        donate_argnums=0,
        out_shardings=(place(state), everywhere),
    )
    if config.init_from:
        params = jax.device_put(_init_from(config, state.params, everywhere), place(state.params))
        # Copied, since a step gives its input away.
        average = jax.tree.map(jnp.copy, params) if config.optim.ema_decay else None
        state = state.replace(params=params, average=average)

    workdir = epath.Path(workdir)
    lock = lock_workdir(workdir, jax.process_index() == 0)
    checkpoints = checkpoint.Checkpoints(workdir, config.train.keep_latest, config.train.keep_best)
    meta = checkpoint.describe(config, dataset.class_names, dataset.mean, dataset.std)
    state, scores = _resume(checkpoints, state, meta, workdir)
    start_step = int(state.step)
    _log_start(config, dataset, state, start_step, total_steps)

    feed = open_feed(dataset, config, mesh)
    new_totals = jax.jit(zero_totals, out_shardings=everywhere)
    report = Report(
        workdir, start_step, total_steps, config.optim.batch_size, jax.process_index() == 0
    )
    with (
        lock,
        checkpoints,
        contextlib.closing(report),
        contextlib.closing(feed),
        watch_for_signals() as interruption,
    ):
        batches = feed.train(start_step)
        for step in range(start_step + 1, total_steps + 1):
            with report.waiting():
                batch = next(batches)
            state, metrics = train_step(state, batch)
            report.step(step, metrics if step % config.train.log_every == 0 else None)
            if step % config.train.log_every == 0:
                _check_numbers(state, model, batch, config, dataset, workdir)

            last = step == total_steps
            if last or clock.passes(step, 1.0):
                broken = {"train/broken_pictures": feed.broken} if feed.broken else {}
                report.write(step, epoch=clock.epoch(step), **_epoch_means(state), **broken)
                state = state.replace(totals=new_totals())
            tested = last or clock.passes(step, config.train.eval_every)
            if tested:
                predictions = predict_all(eval_step, state.tested_params, feed.test())
                scores = predictions.scores(dataset.num_classes)
                report.write(step, **{f"test/{name}": score for name, score in scores.items()})
                report.say(_summary(clock, step, scores))
            stop = interruption.asked(step)
            if tested or stop or clock.passes(step, config.train.checkpoint_every):
                # A run that goes on from here must find all earlier records.
                report.sync()
                checkpoints.save(state, meta, scores if tested else {})
            if stop and not last:
                checkpoints.wait()
                raise interruption.error(step, workdir)
    return scores


def evaluate_checkpoint(path: str, config: ml_collections.ConfigDict | None = None) -> Evaluation:
    """Scores of a checkpoint on a test set.

    Args:
      path: A workdir or WORKDIR/checkpoints/STEP.
      config: Whose `data` and `eval` are used; the checkpoint's own if None.

    Raises:
      UserError: No checkpoint there, or its classes are not the data's.
    """
    mesh = sharding.make_mesh()
    everywhere = sharding.replicated(mesh)
    loaded = checkpoint.load(path, everywhere)
    meta = loaded.meta
    config = config or checkpoint.config_of(meta)
    check_config(config, jax.device_count())
    data = config.data
    dataset = load_dataset(data.name, data.dir, data.train_split, data.test_split)
    # Converted checkpoints may know their classes by number only.
    unnamed = [str(label) for label in range(dataset.num_classes)]
    if meta["class_names"] not in (list(dataset.class_names), unnamed):
        raise UserError(
            f"The checkpoint {path} knows {len(meta['class_names'])} classes "
            f"({', '.join(meta['class_names'][:3])}, ...); {data.name} has "
            f"{dataset.num_classes} ({', '.join(dataset.class_names[:3])}, ...)."
        )
    eval_step = jax.jit(
        make_eval_step(loaded.model, meta["mean"], meta["std"]), out_shardings=everywhere
    )
    return evaluate_fully(
        eval_step,
        loaded.params,
        lambda: test_batches(dataset, config, mesh),
        dataset.class_names,
    )


def _init_from(config: ml_collections.ConfigDict, params: dict, everywhere) -> dict:
    """The parameters of another run's checkpoint, with the head of `params` if it does not fit."""
    loaded = checkpoint.load(config.init_from, everywhere)
    theirs = traverse_util.flatten_dict(loaded.params, sep="/")
    ours = traverse_util.flatten_dict(params, sep="/")
    fits = {k for k in ours.keys() & theirs.keys() if ours[k].shape == theirs[k].shape}
    left = sorted((ours.keys() | theirs.keys()) - fits)
    wrong = [name for name in left if name.split("/")[0] != HEAD]
    if wrong:
        raise UserError(
            f"init_from={config.init_from} is a {loaded.meta['model']} with options "
            f"{loaded.meta['options']}; this run's {config.model.name} differs from it in "
            f"{', '.join(wrong[:5])}{', ...' if len(wrong) > 5 else ''}. "
            f"Did you mean --config.model.name={loaded.meta['model']}?"
        )
    _LOG.info(
        "Took %d of %d arrays from %s; left as drawn: %s.",
        len(fits),
        len(ours),
        config.init_from,
        ", ".join(left) or "none",
    )
    taken = {name: theirs[name] if name in fits else ours[name] for name in ours}
    return traverse_util.unflatten_dict(taken, sep="/")


def _resume(
    checkpoints: checkpoint.Checkpoints, state: TrainState, meta: dict, workdir: epath.Path
) -> tuple[TrainState, dict[str, float]]:
    """The latest checkpoint of the workdir, or the given first state."""
    damaged = []
    for step in reversed(checkpoints.steps()):
        try:
            saved = checkpoints.meta(step)
            _refuse_other_run(meta, saved, workdir)
            state = checkpoints.restore(step, state)
        except (UserError, jax.errors.JaxRuntimeError):
            raise
        except Exception as error:  # Whatever a broken file makes Orbax raise.
            if not checkpoint.is_damage(error):
                raise UserError(
                    f"The checkpoint of step {step} in {workdir} cannot be read now "
                    f"({_short(error)}). It stays where it is; try the same command again."
                ) from error
            damaged.append((step, error))
            continue
        for bad, error in damaged:
            _LOG.warning(
                "CHECKPOINT %d IS DAMAGED (%s); it is moved to %s, and the run goes on from "
                "step %d.", bad, _short(error), checkpoints.set_aside(bad), step,
            )  # fmt: skip
        return state, saved["scores"]
    if damaged:
        lines = [f"  step {step}: {_short(error)}" for step, error in damaged]
        raise UserError(
            f"None of the checkpoints in {workdir} can be read; give another --workdir to begin "
            "anew, or put a copy back:\n" + "\n".join(lines)
        )
    return state, {}


def _short(error: Exception) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) < 200 else f"{words[:200]} ..."


def _refuse_other_run(meta: dict, saved: dict, workdir: epath.Path) -> None:
    ours, theirs = _settings(meta), _settings(saved)
    changed = sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k))
    if changed:
        lines = [f"  {k}: {theirs.get(k)!r} there, {ours.get(k)!r} now" for k in changed]
        raise UserError(
            f"{workdir} holds a run with other settings; give another --workdir, or the same "
            "settings to go on with it. Different are:\n" + "\n".join(lines)
        )


def _check_numbers(
    state: TrainState,
    model,
    batch: dict,
    config: ml_collections.ConfigDict,
    dataset: Dataset,
    workdir: epath.Path,
) -> None:
    """Ends a run whose last steps were all skipped."""
    in_a_row = int(state.skipped_in_a_row)
    if in_a_row < config.train.max_skipped_in_a_row:
        return
    where = ""
    if jax.process_count() == 1:
        where = first_not_finite(model, state.params, batch, dataset.mean, dataset.std)
    raise UserError(
        f"The last {in_a_row} steps were skipped (train.max_skipped_in_a_row): their loss or "
        f"gradient was not finite, or above optim.max_loss={config.optim.max_loss}. "
        f"{where} The last good checkpoint "
        f"stays in {workdir}; try a lower optim.peak_lr or optim.clip_norm=1, or "
        "--debug_nans."
    )


def _settings(meta: dict) -> dict[str, object]:
    """What must not change, flat: `model.name` and so on, with tuples as lists."""
    flat = {"class_names": meta["class_names"]}

    def walk(prefix: str, value: object) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}", inner)
        else:
            flat[prefix] = list(value) if isinstance(value, tuple) else value

    for section in _FIXED:
        walk(section, meta["config"][section])
    # None of these changes what is learned.
    free = ("data.dir", "data.workers", "data.on_device", "data.max_broken_share")
    return {k: v for k, v in flat.items() if k not in free}


def _log_start(
    config: ml_collections.ConfigDict,
    dataset: Dataset,
    state: TrainState,
    start_step: int,
    total_steps: int,
) -> None:
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    _LOG.info(
        "%s, %s parameters, on %s: %s train, %s test pictures, %d classes; %d %s devices",
        config.model.name,
        f"{parameters:,}",
        config.data.name,
        f"{len(dataset.train):,}",
        f"{len(dataset.test):,}",
        dataset.num_classes,
        jax.device_count(),
        jax.default_backend(),
    )
    if start_step >= total_steps:
        _LOG.info("All %d steps are done: nothing to train.", total_steps)
    elif start_step:
        _LOG.info("Going on after step %d of %d.", start_step, total_steps)


def _epoch_means(state: TrainState) -> dict[str, float]:
    """Means over the examples since the last report."""
    totals = {name: value.item() for name, value in jax.device_get(state.totals).items()}
    count = max(totals["count"], 1.0)
    return {
        "train/loss": totals["loss"] / count,
        "train/top1": totals["correct"] / count,
        "train/skipped_steps": int(state.skipped),
    }


def _summary(clock: Clock, step: int, scores: dict[str, float]) -> str:
    return (
        f"epoch {clock.epoch(step):.1f}, step {step}: test top-1 {scores['top1']:.2%}, "
        f"loss {scores['loss']:.4f}, {scores['count']:.0f} pictures"
    )
