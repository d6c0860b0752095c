"""Where a run starts: the latest checkpoint of its workdir that can be read, or its first state."""

import dataclasses
import logging
from typing import Any

import jax
import ml_collections
from etils import epath

from cluenet_jax.checkpoints.manager import Checkpoints, is_corruption
from cluenet_jax.checkpoints.metadata import Metadata
from cluenet_jax.errors import UserError
from cluenet_jax.train.state import TrainState

_LOG = logging.getLogger(__name__)
# Settings that change nothing that is learned, so they may differ when a run resumes.
_FREE = (
    "train.",
    "checkpoint.",
    "eval.every",
    "eval.batch_size",
    "data.dir",
    "data.num_workers",
    "data.cache",
    "data.max_corrupt_fraction",
)


def resume(
    checkpoints: Checkpoints, state: TrainState, metadata: Metadata, workdir: epath.Path
) -> tuple[TrainState, dict[str, float]]:
    """The latest state of a workdir and its metrics, or the given first state and none.

    Corrupt checkpoints after it are moved to quarantine.

    Raises:
      UserError: The workdir holds a run of other settings, or no checkpoint can be read.
    """
    items = state.to_items()
    corrupt = []
    for step in reversed(checkpoints.steps()):
        try:
            saved = checkpoints.metadata(step)
            _refuse_other_run(metadata, saved, workdir)
            state = state.from_items(checkpoints.restore(step, **items))
        except (UserError, jax.errors.JaxRuntimeError):
            raise
        except Exception as error:  # Whatever a corrupt file makes Orbax raise.
            if not is_corruption(error):
                raise UserError(
                    f"The checkpoint of step {step} in {workdir} cannot be read now "
                    f"({_short(error)}). It stays where it is; try the same command again."
                ) from error
            corrupt.append((step, error))
            continue
        for bad_step, error in corrupt:
            _LOG.warning(
                "CHECKPOINT %d IS CORRUPT (%s); it is moved to %s, and the run resumes from "
                "step %d.", bad_step, _short(error), checkpoints.quarantine(bad_step), step,
            )  # fmt: skip
        return state, dict(saved.metrics)
    if corrupt:
        lines = [f"  step {step}: {_short(error)}" for step, error in corrupt]
        raise UserError(
            f"None of the checkpoints in {workdir} can be read; give another --workdir to start "
            "from scratch, or put a copy back:\n" + "\n".join(lines)
        )
    return state, {}


def _short(error: Exception) -> str:
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) < 200 else f"{line[:200]} ..."


def _refuse_other_run(ours: Metadata, theirs: Metadata, workdir: epath.Path) -> None:
    now, there = _fixed_settings(ours), _fixed_settings(theirs)
    changed = sorted(k for k in now.keys() | there.keys() if now.get(k) != there.get(k))
    if changed:
        lines = [f"  {k}: {there.get(k)!r} there, {now.get(k)!r} now" for k in changed]
        raise UserError(
            f"{workdir} holds a run with other settings; give another --workdir, or the same "
            "settings to resume it. Different are:\n" + "\n".join(lines)
        )


def _fixed_settings(metadata: Metadata) -> dict[str, Any]:
    """What must not change, flat: `model.backbone` and so on, with tuples as lists."""
    flat: dict[str, Any] = {}

    def flatten(prefix: str, value: Any) -> None:
        if isinstance(value, dict | ml_collections.ConfigDict):
            for key, inner in value.items():
                flatten(f"{prefix}.{key}".lstrip("."), inner)
        else:
            flat[prefix] = list(value) if isinstance(value, tuple) else value

    flatten("", dict(metadata.config))
    fixed = {key: value for key, value in flat.items() if not key.startswith(_FREE)}
    info = dataclasses.asdict(metadata.info)
    return {**fixed, **{f"dataset {key}": _listed(value) for key, value in info.items()}}


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
