"""Clustering-based vision models in JAX: CLUENet and ClusTR."""

from cluenet_jax import explain, weights
from cluenet_jax.models import create_backbone, create_head, create_model, list_models
from cluenet_jax.version import __version__

__all__ = [
    "__version__",
    "create_backbone",
    "create_head",
    "create_model",
    "explain",
    "list_models",
    "weights",
]
