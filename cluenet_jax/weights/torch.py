"""Variables to and from the tensors of PyTorch checkpoints, by the families' name tables."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from cluenet_jax.models.backbones import family_of
from cluenet_jax.models.heads import kind_of
from cluenet_jax.models.model import Model
from cluenet_jax.models.torch_names import Entry, below


def name_table(model: Model) -> list[Entry]:
    """The names of all arrays of `model`.

    Raises:
      ValueError: The reference has no such model (an ablation of the cluster pooling).
    """
    entries, present = list(_entries(model)), set(_shapes(model))
    known = {(entry.collection, entry.flax) for entry in entries}
    if known != present:
        names = sorted(f"{path}" for _, path in known ^ present)
        raise ValueError(
            "The PyTorch reference has no counterpart of this configuration; parameters it "
            f"lacks or has besides: {', '.join(names)}."
        )
    return entries


def from_torch(state_dict: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """The variables of `model` from a PyTorch state dict.

    Args:
      state_dict: The reference's tensor names and arrays (anything NumPy reads).
      model: What `create_model` returned, of the same sizes.

    Returns:
      `{"params": ...}`, float32 JAX arrays, for `model.apply`.

    Raises:
      ValueError: Lists all missing, unexpected and misshapen tensors.
    """
    entries, shapes = name_table(model), _shapes(model)
    unexpected = set(state_dict) - {entry.torch for entry in entries}
    problems = [f"unexpected: {name}" for name in sorted(unexpected)]
    flat: dict[str, dict] = {}
    for entry in entries:
        shape = shapes[entry.collection, entry.flax]
        expected = entry.kind.to_torch(np.empty(shape)).shape
        if entry.torch not in state_dict:
            problems.append(f"missing: {entry.torch} {list(expected)}")
            continue
        array = np.asarray(state_dict[entry.torch], np.float32)
        if array.shape != expected:
            problems.append(
                f"misshapen: {entry.torch} is {list(array.shape)}, expected {list(expected)}"
            )
            continue
        collection = flat.setdefault(entry.collection, {})
        collection[entry.flax] = jnp.asarray(entry.kind.to_flax(array))
    if problems:
        raise ValueError(
            f"The weights do not fit the model, {len(problems)} tensors differ:\n  "
            + "\n  ".join(problems)
        )
    return {name: traverse_util.unflatten_dict(paths, sep="/") for name, paths in flat.items()}


def to_torch(variables: Mapping[str, Any], model: Model) -> dict[str, np.ndarray]:
    """The exact inverse of `from_torch`: float32 NumPy arrays under the reference's names."""
    flat = {name: traverse_util.flatten_dict(tree, sep="/") for name, tree in variables.items()}
    return {
        entry.torch: np.array(
            entry.kind.to_torch(np.asarray(flat[entry.collection][entry.flax])), order="C"
        )
        for entry in name_table(model)
    }


def _entries(model: Model) -> Iterator[Entry]:
    kind = kind_of(model.head)
    backbone_names = family_of(model.backbone).torch_names(model.backbone)
    yield from below(backbone_names, kind.torch_prefix, "backbone")
    yield from below(kind.torch_names(model.head), "", "head")


def _shapes(model: nn.Module) -> dict[tuple[str, str], tuple[int, ...]]:
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return {
        (collection, path): leaf.shape
        for collection, tree in variables.items()
        for path, leaf in traverse_util.flatten_dict(tree, sep="/").items()
    }
