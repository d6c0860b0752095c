"""A trained model as one file: safetensors under PyTorch's names, its metadata in the header."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from cluenet_jax.checkpoints.metadata import Metadata
from cluenet_jax.checkpoints.storage import is_bucket
from cluenet_jax.errors import UserError
from cluenet_jax.weights import (
    from_torch,
    read_safetensors_texts,
    read_state_dict,
    to_torch,
    write_safetensors,
)

SUFFIX = ".safetensors"
# Names of the texts in the header.
_METADATA, _DIGEST = "cluenet_jax", "sha256"


def write_model_file(
    path: str | os.PathLike, model: nn.Module, variables: Any, metadata: Metadata
) -> None:
    """Writes a file that `cluenet_jax.checkpoints.load.load` takes, and PyTorch's side too.

    Args:
      path: Ends in `SUFFIX`.
      model: Of the variables.
      variables: float32, and int32 counts of BatchNorm.
      metadata: Of the checkpoint; its checksums, of other files, are left out.

    Raises:
      ValueError: The PyTorch reference has no such model.
      UserError: The path is in a bucket.
    """
    _check_local(path)
    weights = to_torch(jax.device_get(variables), model)
    described = json.dumps(dataclasses.replace(metadata, checksums={}).to_json())
    write_safetensors(weights, str(path), {_METADATA: described, _DIGEST: _digest(weights)})


def read_metadata(path: str | os.PathLike) -> Metadata:
    """What a file of `write_model_file` says of itself; reads no array.

    Raises:
      UserError: No such file, in a bucket, corrupt, or of weights alone.
    """
    _check_local(path)
    text = read_safetensors_texts(str(path)).get(_METADATA)
    if text is None:
        raise UserError(
            f"{path} holds weights alone and does not say of which model; "
            f"`python -m cluenet_jax convert {path} DIR --backbone=NAME` makes a checkpoint of it."
        )
    try:
        return Metadata.from_json(json.loads(text))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: its description cannot be read ({error}).") from error


def read_variables(path: str | os.PathLike, model: nn.Module) -> Any:
    """The variables of such a file, bit for bit those that were written.

    Args:
      path: Of the file.
      model: That its metadata describes.

    Raises:
      UserError: The file is corrupt, or of another model than it says.
    """
    weights = read_state_dict(str(path))
    if read_safetensors_texts(str(path)).get(_DIGEST) != _digest(weights):
        raise UserError(f"{path} is corrupt: the digest of its arrays is wrong.")
    try:
        return from_torch(weights, model)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _check_local(path: str | os.PathLike) -> None:
    if is_bucket(path):
        raise UserError(
            f"{path} is in a bucket; a single file of weights is on a disk: copy it. "
            "The checkpoints of a workdir may be in a bucket."
        )


def _digest(weights: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(weights[name]).tobytes())
    return digest.hexdigest()
