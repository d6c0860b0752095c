"""Initial weights from a checkpoint: of a whole model, or of its backbone alone."""

import logging
from typing import Any

import ml_collections
from flax import traverse_util
from jax.sharding import Sharding

from cluenet_jax.checkpoints.load import load
from cluenet_jax.errors import UserError

_LOG = logging.getLogger(__name__)


def initial_variables(
    config: ml_collections.ConfigDict, variables: dict[str, Any], sharding: Sharding
) -> dict[str, Any] | None:
    """The variables to start from, None if `config.init` names no checkpoint.

    Of `init.checkpoint` everything is taken, of the head what has the same shapes; of
    `init.backbone` the backbone alone. The rest stays as in `variables`.

    Raises:
      UserError: Both are given, or the backbones differ.
    """
    init = config.init
    if init.checkpoint and init.backbone:
        raise UserError("Give init.checkpoint or init.backbone, not both.")
    path = init.checkpoint or init.backbone
    if not path:
        return None
    trained = load(path, sharding)
    theirs = traverse_util.flatten_dict(trained.variables, sep="/")
    ours = traverse_util.flatten_dict(variables, sep="/")
    if init.backbone:
        theirs = {name: leaf for name, leaf in theirs.items() if _part(name) == "backbone"}
    fits = {k for k in ours.keys() & theirs.keys() if ours[k].shape == theirs[k].shape}
    left = sorted((ours.keys() | theirs.keys()) - fits)
    wrong = [name for name in left if _part(name) == "backbone" and not _is_level_norm(name)]
    if wrong:
        name = trained.metadata.config["model"]["backbone"]
        raise UserError(
            f"{path} has the backbone {name}; this run's {config.model.backbone} differs from it "
            f"in {', '.join(wrong[:5])}{', ...' if len(wrong) > 5 else ''}. "
            f"Did you mean --config.model.backbone={name}?"
        )
    _LOG.info(
        "Took %d of %d arrays from %s; randomly initialized: %s.",
        len(fits),
        len(ours),
        path,
        ", ".join(name.removeprefix("params/") for name in left) or "none",
    )
    taken = {name: theirs[name] if name in fits else ours[name] for name in ours}
    return traverse_util.unflatten_dict(taken, sep="/")


def _part(name: str) -> str:
    """ "backbone" or "head": the second part of COLLECTION/PART/..."""
    return name.split("/")[1]


def _is_level_norm(name: str) -> bool:
    """Whether an array is of a norm of what a backbone gives to its head, which depends on that."""
    return name.split("/")[2].endswith("_norm")
