"""Semantic FPN (arXiv 1901.02446): an FPN, and a head that sums its levels into class scores."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax import ops
from cluenet_jax.models.features import check_levels
from cluenet_jax.models.heads import fpn
from cluenet_jax.models.heads.layers import (
    ConvNormReLU,
    PixelClassifier,
    check_options,
    classifier_names,
    conv_norm_names,
)
from cluenet_jax.models.torch_names import Entry, below


class SemanticFPN(nn.Module):
    """Logits of each pixel of the first level, as mmsegmentation's `FPN` and `FPNHead`.

    Attributes:
      in_channels: Width of each level, finest first, each half as fine as the one before.
      num_classes: Width of the logits.
      neck_width: Channels of the neck.
      width: Channels of the head.
      dropout: Fraction of the channels that training drops before the classifier.
      dtype: Type of the activations; parameters, statistics and logits are float32.
    """

    in_channels: tuple[int, ...]
    num_classes: int
    neck_width: int = 256
    width: int = 128
    dropout: float = 0.1
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        super().__post_init__()
        check_options(self.dropout, neck_width=self.neck_width, width=self.width)

    @nn.compact
    def __call__(self, levels: tuple[jax.Array, ...], train: bool = False) -> jax.Array:
        """Runs the head.

        Args:
          levels: `[B, H_s, W_s, C_s]` of each stage, of any sizes.
          train: Whether BatchNorm takes the batch's statistics and channels are dropped; the
            latter needs the random stream `dropout`.

        Returns:
          `[B, H_1, W_1, num_classes]` float32.

        Raises:
          ValueError: Levels of other widths than `in_channels`.
        """
        check_levels(levels, self.in_channels)
        levels = fpn.FPN(self.neck_width, dtype=self.dtype, name="neck")(levels)
        decode = DecodeHead(
            self.num_classes, self.width, self.dropout, self.dtype, name="decode_head"
        )
        return decode(levels, train)


class DecodeHead(nn.Module):
    """What follows the neck: steps of convolution and doubling, a sum, a classifier.

    Level i of 0, 1, ... has max(1, i) steps; all but the first level's end in a doubling.
    """

    num_classes: int
    width: int
    dropout: float
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, levels: tuple[jax.Array, ...], train: bool) -> jax.Array:
        """`levels` are `[B, H_s, W_s, C]`; returns `[B, H_1, W_1, num_classes]` float32."""
        size, total = levels[0].shape[1:3], 0
        for i, x in enumerate(levels):
            for step in range(_num_steps(i)):
                x = ConvNormReLU(self.width, 3, self.dtype, name=f"level{i + 1}_step{step}")(
                    x, train
                )
                if i > 0:
                    x = ops.resize_bilinear(x, (2 * x.shape[1], 2 * x.shape[2]))
            # Doubling what was rounded up overshoots.
            total += ops.resize_bilinear(x, size)
        return PixelClassifier(self.num_classes, self.dropout, name="classifier")(total, train)


def _num_steps(level: int) -> int:
    return max(1, level)


def torch_names(head: SemanticFPN) -> Iterator[Entry]:
    """The names of mmsegmentation's checkpoints."""
    num_levels = len(head.in_channels)
    yield from below(fpn.torch_names(num_levels), "neck.", "neck")
    for i in range(num_levels):
        for step in range(_num_steps(i)):
            # Doublings count as modules there.
            yield from conv_norm_names(
                f"decode_head.scale_heads.{i}.{2 * step}", f"decode_head/level{i + 1}_step{step}"
            )
    yield from classifier_names("decode_head", "decode_head")
