"""A backbone and a head as one model."""

from typing import Any

import jax
from flax import linen as nn

from cluenet_jax.models.features import Features


class Model(nn.Module):
    """A backbone and a head; its parameters are `{"backbone": ..., "head": ...}`.

    Attributes:
      backbone: A module from images to `Features`.
      head: A module from a tuple of levels to its task's output.
    """

    backbone: nn.Module
    head: nn.Module

    def __call__(self, images: jax.Array, train: bool = False, **options: Any) -> Any:
        """Runs the whole model.

        Args:
          images: `[B, H, W, 3]`, normalized RGB.
          train: Whether branches are dropped; needs the random stream `dropout`.
          **options: What the head takes besides.

        Returns:
          The head's output: logits `[B, num_classes]` float32 for the head `linear`.
        """
        return self.head(self.backbone(images, train=train).levels, train=train, **options)

    def losses(self, images: jax.Array, train: bool = True, **options: Any) -> dict[str, jax.Array]:
        """The losses of a head that computes its own, such as `mask_rcnn`.

        Args:
          images: `[B, H, W, 3]`, normalized RGB.
          train: As above.
          **options: What the head's `losses` takes besides levels and key; the key is of the
            random stream `dropout`.
        """
        levels = self.backbone(images, train=train).levels
        return self.head.losses(levels, key=self.make_rng("dropout"), **options)

    def features(self, images: jax.Array, train: bool = False) -> Features:
        """Levels and maps of `[B, H, W, 3]`; use `model.apply(..., method="features")`."""
        return self.backbone(images, train=train)

    def decode(self, levels: tuple[jax.Array, ...], train: bool = False, **options: Any) -> Any:
        """The head's output of the levels of `Features`."""
        return self.head(levels, train=train, **options)
