"""Layers that the heads of dense prediction share, and their names in published checkpoints."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax.models import torch_names as names
from cluenet_jax.models.batch_norm import BatchNorm
from cluenet_jax.models.layers import conv_init


class ConvNormReLU(nn.Module):
    """A convolution without bias, BatchNorm, ReLU: `[B, H, W, C]` to `[B, H, W, width]`.

    Attributes:
      width: Channels of the result.
      size: Of the kernel, odd.
      dtype: Type of the convolution and of the result.
    """

    width: int
    size: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`x` is `[B, H, W, C]`; in training BatchNorm takes the batch's statistics."""
        x = nn.Conv(
            self.width,
            (self.size, self.size),
            padding=self.size // 2,
            use_bias=False,
            kernel_init=conv_init,
            dtype=self.dtype,
            name="conv",
        )(x)
        return nn.relu(BatchNorm(self.dtype, name="bn")(x, train))


class PixelClassifier(nn.Module):
    """Logits of each pixel, after dropout of whole channels: `[B, H, W, C]` to float32.

    Attributes:
      num_classes: Width of the logits.
      dropout: Fraction of the channels that training drops; needs the random stream `dropout`.
    """

    num_classes: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`x` is `[B, H, W, C]`; returns `[B, H, W, num_classes]` float32."""
        x = nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(x)
        init = nn.initializers.normal(0.01)
        return nn.Dense(self.num_classes, kernel_init=init, name="linear")(x.astype(jnp.float32))


def check_options(dropout: float, **widths: int) -> None:
    """Raises a ValueError for a dropout rate or widths that no head can have."""
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout} must be at least 0 and below 1.")
    check_sizes(**widths)


def check_sizes(**sizes: int) -> None:
    """Raises a ValueError for what is not above 0."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}={size} must be at least 1.")


def check_threshold(score_threshold: float) -> None:
    """Raises a ValueError for a threshold that no score could be above, or that all are."""
    if not 0 <= score_threshold < 1:
        raise ValueError(f"score_threshold={score_threshold} must be at least 0 and below 1.")


def conv_norm_names(torch: str, flax: str) -> Iterator[names.Entry]:
    """The names of a `ConvNormReLU`, mmcv's `ConvModule`."""
    yield names.Entry(f"{torch}.conv.weight", f"{flax}/conv/kernel", names.CONV)
    yield from names.batch_norm(f"{torch}.bn", f"{flax}/bn")


def classifier_names(torch: str, flax: str) -> Iterator[names.Entry]:
    """The names of a `PixelClassifier`, mmsegmentation's `conv_seg`."""
    yield from names.layer(f"{torch}.conv_seg", f"{flax}/classifier/linear", names.CONV1X1)
