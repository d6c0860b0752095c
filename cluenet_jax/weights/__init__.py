"""Weights of the published PyTorch networks, to and from Flax variables."""

from cluenet_jax.weights.files import read_state_dict, write_safetensors
from cluenet_jax.weights.torch_names import from_torch, to_torch

__all__ = ["from_torch", "read_state_dict", "to_torch", "write_safetensors"]
