"""Clustering-based vision networks in JAX: CLUENet and ClusTR."""

from cluenet_jax import explain, weights
from cluenet_jax.models import create_model, list_models
from cluenet_jax.version import __version__

__all__ = ["__version__", "create_model", "explain", "list_models", "weights"]
