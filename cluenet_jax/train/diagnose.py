"""Which tensor went wrong first."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from cluenet_jax.data import normalize


def first_not_finite(model: nn.Module, params: Any, batch: dict, mean: Any, std: Any) -> str:
    """A sentence on the first tensor that is not finite: parameters, images, then the network.

    Args:
      batch: `image` uint8 `[B, H, W, 3]`.
      mean, std: That images are normalised with.
    """
    flat = traverse_util.flatten_dict(params, sep="/")
    for name, leaf in flat.items():
        if not _finite(leaf):
            return f"The parameter {name} is not finite."
    images = normalize(batch["image"], mean, std)
    if not _finite(images):
        return "The normalised images are not finite."
    names = []

    @jax.jit
    def run(params: Any, images: jax.Array) -> tuple[jax.Array, list]:
        logits, state = model.apply(
            {"params": params}, images, capture_intermediates=True, mutable=["intermediates"]
        )
        # Modules answer in the order in which they end; a dict would come back sorted.
        outputs = traverse_util.flatten_dict(state["intermediates"], sep="/")
        names[:] = outputs
        return logits, list(outputs.values())

    logits, outputs = run(params, images)
    for name, output in zip(names, outputs, strict=True):
        if not all(_finite(part) for part in jax.tree.leaves(output)):
            return f"The output of {name.removesuffix('/__call__')} is not finite."
    largest = float(np.abs(jax.device_get(logits)).max())
    return (
        f"Without augmentation the network's outputs are finite (logits up to {largest:.3g}); the "
        "gradient or the loss is not."
    )


def _finite(x: Any) -> bool:
    return not jnp.issubdtype(x.dtype, jnp.floating) or bool(jnp.isfinite(x).all())
