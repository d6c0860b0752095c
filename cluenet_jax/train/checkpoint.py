"""Checkpoints: Orbax directories that describe themselves.

A workdir's `checkpoints/` holds one directory per saved step, each with
  `params`  the network's parameters, all that the tools read;
  `train`   the rest of the training state (absent after a conversion);
  `meta`    JSON: model, options, classes, normalisation, sizes, the whole
            config, versions, and the scores at saving;
  `manifest.json`  the sizes and digests of the files of all of these.
Saving is asynchronous; a directory appears under its final name only when whole.
"""

import contextlib
import dataclasses
import importlib.metadata
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import orbax.checkpoint as ocp
from etils import epath
from flax import linen as nn
from jax.experimental import multihost_utils
from jax.sharding import Sharding

from cluenet_jax.checkpoints.integrity import Inspector, checksum, write_manifest
from cluenet_jax.checkpoints.late_reads import late_reads_unreported
from cluenet_jax.config import default_config, model_overrides
from cluenet_jax.errors import UserError
from cluenet_jax.models import create_model
from cluenet_jax.train.state import TrainState
from cluenet_jax.train.storage import absolute

_PACKAGES = ("cluenet-jax", "jax", "flax", "optax", "orbax-checkpoint")
FOLDER = "checkpoints"
# The score by which the best checkpoint is chosen.
BEST = "top1"


class Checkpoints:
    """The checkpoints of one workdir.

    Args:
      workdir: A folder that all processes share.
      keep_latest, keep_best: How many to keep, by step and by test accuracy.
      read_only: Neither create nor clean up anything.
    """

    def __init__(
        self,
        workdir: str | epath.Path,
        keep_latest: int = 1,
        keep_best: int = 1,
        read_only: bool = False,
    ):
        policies = ocp.checkpoint_managers
        best = policies.BestN(
            get_metric_fn=lambda metrics: metrics[BEST],
            n=keep_best,
            keep_checkpoints_without_metrics=False,
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(
                [policies.LatestN(keep_latest), best]
            ),
            cleanup_tmp_directories=not read_only,
            create=not read_only,
            read_only=read_only,
            # Runs in the main process, when a step's files are whole and not yet committed.
            async_options=ocp.AsyncOptions(post_finalization_callback=self._write_manifest),
        )
        self._directory = absolute(workdir) / FOLDER
        self._inspector = Inspector(self._directory)
        self._saving: int | None = None
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def steps(self) -> list[int]:
        """All complete checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """The checkpoint of highest test accuracy (the newest of equals), None if none has one."""
        known = []
        for step in self.steps():
            # Whatever a broken file makes Orbax raise: then it is not the best.
            with contextlib.suppress(Exception):
                known.append((self.meta(step)["scores"][BEST], step))
        return max(known)[1] if known else None

    def wait(self) -> None:
        """Returns when all that was saved is on disk.

        Raises:
          UserError: It could not be written.
        """
        with _told_of_failures(self):
            self._manager.wait_until_finished()

    def set_aside(self, step: int) -> epath.Path:
        """Moves a checkpoint that cannot be read out of the way; all processes call it."""
        place = self._directory.parent / "damaged" / f"{step}_{time.time_ns()}"
        if jax.process_index() == 0:
            place.parent.mkdir(exist_ok=True)
            # In a bucket a folder is there when a file is.
            (place.parent / "README").write_text("Checkpoints that cannot be read.\n")
            (self._directory / str(step)).rename(place)
        multihost_utils.sync_global_devices("checkpoint set aside")
        self._inspector.forget(step)
        self._manager.reload()
        return place

    def save(self, state: TrainState, meta: dict[str, Any], scores: dict[str, float]) -> None:
        """Saves in the background; returns when the state may be changed."""
        step = int(state.step)
        meta = {**meta, "step": step, "scores": scores}
        self.save_items(step, meta, params=state.tested_params, train=_rest(state))

    def save_items(self, step: int, meta: dict[str, Any], **trees: Any) -> None:
        """Saves `meta` and any of `params` and `train`."""
        items = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
        meta = {**meta, "checksums": {name: checksum(tree) for name, tree in trees.items()}}
        args = ocp.args.Composite(meta=ocp.args.JsonSave(meta), **items)
        with _told_of_failures(self):
            # The callback of an earlier save must not see this step.
            self._manager.wait_until_finished()
            self._saving = step
            self._inspector.forget(step)
            if not self._manager.save(step, args=args, metrics=meta["scores"] or None):
                raise OSError(f"there is one of step {step} or later already")

    def _write_manifest(self) -> None:
        # In a bucket a step is written in place, and committed by one more file.
        temporary = list(self._directory.glob(f"{self._saving}{ocp.utils.TMP_DIR_SUFFIX}*"))
        write_manifest(temporary[0] if temporary else self._directory / str(self._saving))

    def meta(self, step: int) -> dict[str, Any]:
        """What a checkpoint says of itself."""
        return self._restore(step, meta=ocp.args.JsonRestore()).meta

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The whole state at `step`, with the shapes and places of `like`."""
        restored = self._restore(
            step,
            params=ocp.args.StandardRestore(like.tested_params),
            train=ocp.args.StandardRestore(_rest(like)),
        )
        self._verify(step, params=restored.params, train=restored.train)
        if like.average is None:
            return like.replace(params=restored.params, **restored.train)
        return like.replace(average=restored.params, **restored.train)

    def restore_params(self, step: int, like: Any) -> Any:
        """The parameters alone, with the shapes and places of `like`."""
        params = self._restore(step, params=ocp.args.StandardRestore(like)).params
        self._verify(step, params=params)
        return params

    def _restore(self, step: int, **args: Any) -> ocp.args.Composite:
        self._inspector.check(step, *args)
        with late_reads_unreported():
            return self._manager.restore(step, args=ocp.args.Composite(**args))

    def _verify(self, step: int, **trees: Any) -> None:
        saved = self.meta(step).get("checksums", {})
        for name, tree in trees.items():
            if name in saved and saved[name] != checksum(tree):
                raise ValueError(f"the checksum of `{name}` at step {step} is wrong")

    def close(self) -> None:
        """Waits for what is still being written."""
        with _told_of_failures(self):
            self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, error: Exception | None, trace: object) -> None:
        # After an error among many processes, waiting for a lost one would take minutes.
        if error is None or jax.process_count() == 1:
            self.close()


def is_damage(error: Exception) -> bool:
    """Whether reading failed for what is stored, not for want of memory, rights or a network."""
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return True
    if isinstance(error, MemoryError | OSError) or "Gloo" in str(error):
        return False
    # TensorStore's words for what may pass; gcsfs and its HTTP client have classes of their own.
    passing = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "UNAUTHENTICATED", "PERMISSION_DENIED", "CURL")
    return type(error).__module__.split(".")[0] not in ("gcsfs", "aiohttp", "google") and not any(
        word in str(error) for word in passing
    )


@contextlib.contextmanager
def _told_of_failures(checkpoints: Checkpoints) -> Iterator[None]:
    """Turns a failed write, also of an earlier save in the background, into a `UserError`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:  # How TensorStore reports a full disk.
        if "Gloo" in str(error):  # And how CPU hosts lose each other.
            raise
        reason = " ".join(str(error).split())
    else:
        return
    raise UserError(
        f"A checkpoint could not be written ({reason[:300]}). Whole ones are there of the steps "
        f"{checkpoints.steps() or 'none'}: make room, and the same command goes on from the last."
    )


def _rest(state: TrainState) -> dict[str, Any]:
    """What `tested_params` leaves out."""
    tested = "params" if state.average is None else "average"
    fields = [f.name for f in dataclasses.fields(state) if f.name not in (tested, "average")]
    return {name: getattr(state, name) for name in fields}


def describe(
    config: ml_collections.ConfigDict, class_names: Sequence[str], mean: Sequence, std: Sequence
) -> dict[str, Any]:
    """The part of a checkpoint's `meta` that stays the same during a run.

    Args:
      config: The whole configuration.
      class_names: By label.
      mean, std: Of RGB, in 0 .. 1, that images are normalised with.
    """
    return {
        "model": config.model.name,
        "options": model_overrides(config),
        "class_names": list(class_names),
        "mean": list(mean),
        "std": list(std),
        "image_size": config.data.image_size,
        "test_resize": config.data.test_resize,
        "interpolation": config.data.interpolation,
        "config": config.to_dict(),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def save_params(workdir: str, params: Any, meta: dict[str, Any]) -> None:
    """Writes a checkpoint of parameters alone, such as converted ones, as step 0."""
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save_items(0, {**meta, "step": 0, "scores": {}}, params=params)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A trained network: `model.apply({"params": params}, images)`."""

    model: nn.Module
    params: Any
    meta: dict[str, Any]


def load(path: str, sharding: Sharding | None = None) -> Loaded:
    """Loads the network of a checkpoint.

    Args:
      path: A workdir (its best checkpoint is taken, or the latest if none was
        evaluated) or the directory of one step, `WORKDIR/checkpoints/STEP`.
      sharding: Where the parameters shall live; by default on one device.

    Raises:
      UserError: There is no checkpoint there, or none of that step, or it is damaged.
    """
    workdir, step = absolute(path), None
    if workdir.name.isdigit() and workdir.parent.name == FOLDER:
        workdir, step = workdir.parent.parent, int(workdir.name)
    if not (workdir / FOLDER).exists():
        raise UserError(
            f"No checkpoint in {path}: expected the workdir of a run (with a folder "
            f"`{FOLDER}` in it) or WORKDIR/{FOLDER}/STEP."
        )
    with Checkpoints(workdir, read_only=True) as checkpoints:
        steps = checkpoints.steps()
        if step is None and steps:
            step = checkpoints.best_step() or steps[-1]
        if step not in steps:
            raise UserError(f"No complete checkpoint at {path}; steps there: {steps or 'none'}.")
        try:
            meta = checkpoints.meta(step)
        except Exception as error:  # Whatever a broken file makes Orbax raise.
            raise _damaged(path, step, steps, error) from error
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in meta["options"].items()}
        model = create_model(meta["model"], len(meta["class_names"]), **options)
        like = _abstract_params(model, meta, sharding)
        try:
            params = checkpoints.restore_params(step, like)
        except Exception as error:
            raise _damaged(path, step, steps, error) from error
    return Loaded(model, params, meta)


def _damaged(path: str, step: int, steps: list[int], error: Exception) -> UserError:
    others = [other for other in steps if other != step]
    return UserError(
        f"The checkpoint of step {step} in {path} cannot be read "
        f"({' '.join(str(error).split())[:200]}); others there: {others or 'none'}."
    )


def config_of(meta: dict[str, Any]) -> ml_collections.ConfigDict:
    """The configuration that a checkpoint was trained with; settings it lacks get defaults."""
    config = default_config()

    def fill(section: ml_collections.ConfigDict, values: dict[str, Any]) -> None:
        for key, value in values.items():
            if key not in section:
                continue  # A setting of another version.
            if isinstance(value, dict):
                fill(section[key], value)
            else:
                section[key] = tuple(value) if isinstance(value, list) else value

    fill(config, meta["config"])
    return config


def _abstract_params(model: nn.Module, meta: dict[str, Any], sharding: Sharding | None) -> Any:
    sharding = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    size = meta["image_size"]
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), params)
