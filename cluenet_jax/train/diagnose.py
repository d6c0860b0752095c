"""The end of a run whose steps are all skipped, and which tensor is the first not finite."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from flax import linen as nn
from flax import traverse_util

from cluenet_jax.errors import UserError
from cluenet_jax.tasks.base import Batch, Task
from cluenet_jax.train.state import TrainState


def check_skips(
    config: ml_collections.ConfigDict,
    state: TrainState,
    task: Task,
    model: nn.Module,
    batch: Batch,
    workdir: object,
) -> None:
    """Ends a run whose last steps were all skipped.

    Raises:
      UserError: `train.max_consecutive_skips` steps in a row were skipped; it names the first
        tensor that is not finite.
    """
    skips = int(state.consecutive_skips)
    if skips < config.train.max_consecutive_skips:
        return
    reason = ""
    if jax.process_count() == 1:
        variables = {"params": state.params, **state.model_state}
        reason = first_not_finite(model, variables, task.preprocessing.normalize(batch["image"]))
    raise UserError(
        f"The last {skips} steps were skipped (train.max_consecutive_skips): their loss or "
        f"gradient was not finite, or above optim.max_loss={config.optim.max_loss}. "
        f"{reason} The last good checkpoint "
        f"stays in {workdir}; try a lower optim.peak_lr or optim.clip_norm=1, or "
        "--debug_nans."
    )


def first_not_finite(model: nn.Module, variables: Any, images: jax.Array) -> str:
    """A sentence on the first tensor that is not finite: variables, images, then the model.

    Args:
      model: The Flax module.
      variables: Of the model.
      images: `[B, H, W, 3]`, normalized.
    """
    for collection, tree in variables.items():
        for name, leaf in traverse_util.flatten_dict(tree, sep="/").items():
            if not _finite(leaf):
                kind = "parameter" if collection == "params" else collection
                return f"The {kind} {name} is not finite."
    if not _finite(images):
        return "The normalized images are not finite."
    names = []

    @jax.jit
    def run(variables: Any, images: jax.Array) -> tuple[Any, list]:
        output, state = model.apply(
            variables, images, capture_intermediates=True, mutable=["intermediates"]
        )
        # Modules answer in the order in which they end; a dict would come back sorted.
        outputs = traverse_util.flatten_dict(state["intermediates"], sep="/")
        names[:] = outputs
        return output, list(outputs.values())

    output, outputs = run(variables, images)
    for name, intermediate in zip(names, outputs, strict=True):
        if not all(_finite(part) for part in jax.tree.leaves(intermediate)):
            return f"The output of {name.removesuffix('/__call__')} is not finite."
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(output))
    return (
        f"Without augmentation the model's outputs are finite (up to {largest:.3g}); the "
        "gradient or the loss is not."
    )


def _finite(x: Any) -> bool:
    return not jnp.issubdtype(x.dtype, jnp.floating) or bool(jnp.isfinite(x).all())
