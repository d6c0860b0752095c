"""Clustering-based vision models in JAX: CLUENet and ClusTR."""

import typing

from cluenet_jax import explain, weights
from cluenet_jax.models import create_backbone, create_head, create_model, list_models
from cluenet_jax.pretrained import list_pretrained
from cluenet_jax.version import __version__

if typing.TYPE_CHECKING:
    from cluenet_jax.checkpoints.load import TrainedModel

__all__ = [
    "__version__",
    "create_backbone",
    "create_head",
    "create_model",
    "explain",
    "list_models",
    "list_pretrained",
    "load_pretrained",
    "weights",
]


def load_pretrained(name: str) -> "TrainedModel":
    """A trained model: its task, module, variables and metadata.

    Args:
      name: One of `list_pretrained()`, or a checkpoint that `checkpoints.load.load` takes.

    Raises:
      UserError: There is none; the message lists the names.
    """
    # Imported late: models need none of the libraries that read checkpoints.
    from cluenet_jax.checkpoints.load import load

    return load(name)
