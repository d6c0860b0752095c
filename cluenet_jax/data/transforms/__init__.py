"""Random and fixed transforms of single images on the host, while they are decoded.

Pillow images of mode RGB in and out; random draws from a NumPy generator.
"""

from cluenet_jax.data.transforms.color import color_jitter
from cluenet_jax.data.transforms.geometry import (
    INTERPOLATIONS,
    random_resized_crop,
    resize,
    resize_and_center_crop,
)
from cluenet_jax.data.transforms.rand_augment import rand_augment

__all__ = [
    "INTERPOLATIONS",
    "color_jitter",
    "rand_augment",
    "random_resized_crop",
    "resize",
    "resize_and_center_crop",
]
