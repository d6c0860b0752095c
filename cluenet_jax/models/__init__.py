"""The networks, as Flax Linen modules."""

from cluenet_jax.models.registry import create_model, list_models

__all__ = ["create_model", "list_models"]
