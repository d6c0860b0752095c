"""The plain families that ours are compared with: convolutional and a transformer."""

from benchmarks import convnet, vit
from cluenet_jax.models.backbones import FAMILIES

PLAIN = {"convolutional": convnet.FAMILY, "vit": vit.FAMILY}


def register() -> None:
    """Makes them known to recipes and checkpoints of this process."""
    FAMILIES.update(PLAIN)
