"""The checkpoints of a workdir.

`WORKDIR/checkpoints/STEP` holds::

    variables      what is evaluated and used: parameters and the model's other collections
    train          the rest of the training state (absent after a conversion)
    metadata_json  what is known of the run, see checkpoints.metadata
    manifest.json  the sizes and digests of the files of all of these

Saving is asynchronous; a directory appears under its final name only when it is complete.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from cluenet_jax.checkpoints.integrity import Inspector, checksum, write_manifest
from cluenet_jax.checkpoints.late_reads import late_reads_unreported
from cluenet_jax.checkpoints.metadata import Metadata
from cluenet_jax.checkpoints.storage import absolute
from cluenet_jax.errors import UserError
from cluenet_jax.settings import integer, number

FOLDER, QUARANTINE = "checkpoints", "quarantine"
_METADATA = "metadata_json"
_BEST = "best"

SETTINGS = {"every": number(above=0), "keep_latest": integer(1), "keep_best": integer(0)}


class Checkpoints:
    """The checkpoints of one workdir.

    Args:
      workdir: A folder that all processes share.
      keep_latest, keep_best: How many to keep, by step and by the best metric.
      read_only: Whether nothing is created or cleaned up.
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
            get_metric_fn=lambda metrics: metrics[_BEST],
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
            # Runs in the main process, when a step's files are complete and not yet committed.
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
        """The checkpoint of the highest metric (the newest of equals), None if none has one."""
        known = []
        for step in self.steps():
            # Whatever a corrupt file makes Orbax raise: then it is not the best.
            with contextlib.suppress(Exception):
                metadata = self.metadata(step)
                known.append((metadata.metrics[metadata.best_metric], step))
        return max(known)[1] if known else None

    def wait(self) -> None:
        """Returns when all that was saved is on disk.

        Raises:
          UserError: It could not be written.
        """
        with _explained_failures(self):
            self._manager.wait_until_finished()

    def quarantine(self, step: int) -> epath.Path:
        """Moves a checkpoint that cannot be read out of the way; all processes call it."""
        folder, number = self._directory.parent / QUARANTINE, 1
        if jax.process_index() == 0:
            folder.mkdir(exist_ok=True)
            # In a bucket a folder is there when a file is.
            (folder / "README").write_text("Checkpoints that cannot be read.\n")
            while (folder / f"{step}_{number}").exists():
                number += 1
            (self._directory / str(step)).rename(folder / f"{step}_{number}")
        # The other processes wait for it, and name the same folder.
        number = multihost_utils.broadcast_one_to_all(np.int32(number))
        target = folder / f"{step}_{int(number)}"
        self._inspector.forget(step)
        self._manager.reload()
        return target

    def save(self, metadata: Metadata, **trees: Any) -> None:
        """Saves arrays in the background; returns when they may be changed.

        Args:
          metadata: With the step and its metrics.
          **trees: `variables` and, of a run, `train`.

        Raises:
          UserError: This save or an earlier one could not be written.
        """
        checksums = {name: checksum(tree) for name, tree in trees.items()}
        metadata = dataclasses.replace(metadata, checksums=checksums)
        best = metadata.metrics.get(metadata.best_metric)
        items = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
        items[_METADATA] = ocp.args.JsonSave(metadata.to_json())
        with _explained_failures(self):
            # The callback of an earlier save must not see this step.
            self._manager.wait_until_finished()
            self._saving = metadata.step
            self._inspector.forget(metadata.step)
            saved = self._manager.save(
                metadata.step,
                args=ocp.args.Composite(**items),
                metrics=None if best is None else {_BEST: best},
            )
            if not saved:
                raise OSError(f"there is one of step {metadata.step} or later already")

    def _write_manifest(self) -> None:
        # In a bucket a step is written in place, and committed by one more file.
        temporary = list(self._directory.glob(f"{self._saving}{ocp.utils.TMP_DIR_SUFFIX}*"))
        write_manifest(temporary[0] if temporary else self._directory / str(self._saving))

    def metadata(self, step: int) -> Metadata:
        """What a checkpoint says of itself."""
        restored = self._read(step, **{_METADATA: ocp.args.JsonRestore()})
        return Metadata.from_json(restored[_METADATA])

    def restore(self, step: int, **like: Any) -> dict[str, Any]:
        """The arrays of a checkpoint.

        Args:
          step: One of `steps()`.
          **like: For each item to restore (`variables`, `train`) the shapes and shardings.

        Raises:
          CorruptCheckpointError, ValueError: Files or arrays are not those that were saved.
        """
        args = {name: ocp.args.StandardRestore(tree) for name, tree in like.items()}
        restored = self._read(step, **{_METADATA: ocp.args.JsonRestore()}, **args)
        saved = Metadata.from_json(restored[_METADATA]).checksums
        for name in like:
            if name in saved and saved[name] != checksum(restored[name]):
                raise ValueError(f"the checksum of `{name}` at step {step} is wrong")
        return {name: restored[name] for name in like}

    def _read(self, step: int, **args: Any) -> ocp.args.Composite:
        self._inspector.check(step, *args)
        with late_reads_unreported():
            return self._manager.restore(step, args=ocp.args.Composite(**args))

    def close(self) -> None:
        """Waits for what is still being written."""
        with _explained_failures(self):
            self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, error: Exception | None, trace: object) -> None:
        # After an error among many processes, waiting for a lost one would take minutes.
        if error is None or jax.process_count() == 1:
            self.close()


def is_corruption(error: Exception) -> bool:
    """Whether reading failed for what is stored, not for lack of memory, rights or a network."""
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return True
    if isinstance(error, MemoryError | OSError) or "Gloo" in str(error):
        return False
    # TensorStore's words for what may pass; gcsfs and its HTTP client have errors of their own.
    passing = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "UNAUTHENTICATED", "PERMISSION_DENIED", "CURL")
    return type(error).__module__.split(".")[0] not in ("gcsfs", "aiohttp", "google") and not any(
        word in str(error) for word in passing
    )


@contextlib.contextmanager
def _explained_failures(checkpoints: Checkpoints) -> Iterator[None]:
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
        f"A checkpoint could not be written ({reason[:300]}). Complete ones are there of the steps "
        f"{checkpoints.steps() or 'none'}: make room, and the same command resumes from the last."
    )
