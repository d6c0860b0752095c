"""Weights of the published PyTorch models, to and from Flax variables."""

from cluenet_jax.weights.files import (
    read_safetensors_texts,
    read_state_dict,
    write_safetensors,
)
from cluenet_jax.weights.torch import from_torch, to_torch

__all__ = [
    "from_torch",
    "read_safetensors_texts",
    "read_state_dict",
    "to_torch",
    "write_safetensors",
]
