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


def name_table(model: nn.Module) -> list[tuple[Entry, jax.ShapeDtypeStruct]]:
    """The names of all arrays of a model or of a head, and their shapes and types in Flax.

    Raises:
      ValueError: The reference has no such model (an ablation of the cluster pooling).
    """
    entries, specs = list(_entries(model)), _specs(model)
    known = {(entry.collection, entry.flax) for entry in entries}
    if known != specs.keys():
        names = sorted(f"{path}" for _, path in known ^ specs.keys())
        raise ValueError(
            "The PyTorch reference has no counterpart of this configuration; parameters it "
            f"lacks or has besides: {', '.join(names)}."
        )
    return [(entry, specs[entry.collection, entry.flax]) for entry in entries]


def from_torch(state_dict: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """The variables of `model` from a PyTorch state dict.

    Args:
      state_dict: Arrays (anything NumPy reads) under the reference's tensor names, of the newest
        form of its code or an older one (`Family.from_older`); those of a
        model with a head of dense prediction are mmsegmentation's, `backbone.*`, `neck.*`,
        `decode_head.*` and `auxiliary_head.*`, or mmdetection's, `backbone.*`, `neck.*`,
        `rpn_head.*` and `roi_head.*`.
      model: What `create_model` returned, or `create_head` for a head alone, whose names are
        those of a whole model without the backbone's; of the same sizes.

    Returns:
      `{"params": ...}`, float32 JAX arrays, for `model.apply`; where the model has BatchNorm also
      `"batch_stats"`, whose counts of batches are int32.

    Raises:
      ValueError: Lists all missing, unexpected and misshapen tensors.
    """
    if isinstance(model, Model):
        state_dict = family_of(model.backbone).from_older(state_dict)
    table = name_table(model)
    unexpected = set(state_dict) - {entry.torch for entry, _ in table}
    problems = [f"unexpected: {name}" for name in sorted(unexpected)]
    flat: dict[str, dict] = {}
    for entry, spec in table:
        expected = entry.kind.to_torch(np.empty(spec.shape)).shape
        if entry.torch not in state_dict:
            problems.append(f"missing: {entry.torch} {list(expected)}")
            continue
        array = np.asarray(state_dict[entry.torch], spec.dtype)
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


def to_torch(variables: Mapping[str, Any], model: nn.Module) -> dict[str, np.ndarray]:
    """The exact inverse of `from_torch`: NumPy arrays under the reference's names.

    They are float32, BatchNorm's counts of batches int64.
    """
    flat = {name: traverse_util.flatten_dict(tree, sep="/") for name, tree in variables.items()}
    return {
        entry.torch: np.array(
            entry.kind.to_torch(np.asarray(flat[entry.collection][entry.flax])), order="C"
        )
        for entry, _ in name_table(model)
    }


def _entries(model: nn.Module) -> Iterator[Entry]:
    if not isinstance(model, Model):
        yield from kind_of(model).torch_names(model)
        return
    kind = kind_of(model.head)
    backbone_names = family_of(model.backbone).torch_names(model.backbone)
    yield from below(backbone_names, kind.torch_prefix(model.head), "backbone")
    yield from below(kind.torch_names(model.head), "", "head")


def _specs(model: nn.Module) -> dict[tuple[str, str], jax.ShapeDtypeStruct]:
    """Shape and type of every array, by its collection and its path there."""
    if isinstance(model, Model):
        inputs = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    else:
        inputs = tuple(
            jax.ShapeDtypeStruct((1, 1, 1, width), jnp.float32) for width in model.in_channels
        )
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
    return {
        (collection, path): leaf
        for collection, tree in variables.items()
        for path, leaf in traverse_util.flatten_dict(tree, sep="/").items()
    }
