"""UperNet (arXiv 1807.10221): pyramid pooling of the last level, an FPN, an auxiliary head."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax import ops
from cluenet_jax.models.features import check_levels
from cluenet_jax.models.heads.fpn import top_down
from cluenet_jax.models.heads.layers import (
    ConvNormReLU,
    PixelClassifier,
    check_options,
    classifier_names,
    conv_norm_names,
)
from cluenet_jax.models.torch_names import Entry

# Rows and columns of the cells that the last level is averaged over.
_POOLED = (1, 2, 3, 6)
# The level that the auxiliary head reads: the last but one.
_AUXILIARY = -2


class UperNet(nn.Module):
    """Logits of each pixel of the first level, as mmsegmentation's `UPerHead` and `FCNHead`.

    Attributes:
      in_channels: Width of each level, finest first.
      num_classes: Width of the logits.
      width: Channels of the head.
      auxiliary_width: Channels of the auxiliary head.
      dropout: Fraction of the channels that training drops before the classifiers.
      dtype: Type of the activations; parameters, statistics and logits are float32.
    """

    in_channels: tuple[int, ...]
    num_classes: int
    width: int = 512
    auxiliary_width: int = 256
    dropout: float = 0.1
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        super().__post_init__()
        check_options(self.dropout, width=self.width, auxiliary_width=self.auxiliary_width)

    @nn.compact
    def __call__(
        self, levels: tuple[jax.Array, ...], train: bool = False, auxiliary: bool = False
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """Runs the head.

        Args:
          levels: `[B, H_s, W_s, C_s]` of each stage, of any sizes.
          train: Whether BatchNorm takes the batch's statistics and channels are dropped; the
            latter needs the random stream `dropout`. A batch needs two images at least.
          auxiliary: Whether the auxiliary head, for its loss in training, runs too.

        Returns:
          Logits `[B, H_1, W_1, num_classes]` float32; with `auxiliary` a pair of them and of
          those of the last level but one, `[B, H_3, W_3, num_classes]` of four levels.

        Raises:
          ValueError: Levels of other widths than `in_channels`, or one image in training.
        """
        check_levels(levels, self.in_channels)
        decode = DecodeHead(
            self.num_classes, self.width, self.dropout, self.dtype, name="decode_head"
        )
        logits = decode(levels, train)
        # Whoever initializes gets all parameters.
        if not auxiliary and not self.is_initializing():
            return logits
        head = AuxiliaryHead(
            self.num_classes, self.auxiliary_width, self.dropout, self.dtype, name="auxiliary_head"
        )
        auxiliary_logits = head(levels[_AUXILIARY], train)
        return (logits, auxiliary_logits) if auxiliary else logits


class DecodeHead(nn.Module):
    """Pyramid pooling of the last level, laterals of the others, from the top down, fusion."""

    num_classes: int
    width: int
    dropout: float
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, levels: tuple[jax.Array, ...], train: bool) -> jax.Array:
        """`levels` are `[B, H_s, W_s, C_s]`; returns `[B, H_1, W_1, num_classes]` float32."""

        def layer(x: jax.Array, size: int, name: str) -> jax.Array:
            return ConvNormReLU(self.width, size, self.dtype, name=name)(x, train)

        last = levels[-1].astype(self.dtype)
        pooled = [last]
        for cells in _POOLED:
            x = layer(ops.adaptive_avg_pool(last, (cells, cells)), 1, f"pooled{cells}")
            pooled.append(ops.resize_bilinear(x, last.shape[1:3]))
        top = layer(jnp.concatenate(pooled, axis=-1), 3, "bottleneck")
        laterals = [layer(x, 1, f"lateral{i}") for i, x in enumerate(levels[:-1], 1)]
        *finer, top = top_down([*laterals, top], ops.resize_bilinear)
        outputs = [*(layer(x, 3, f"output{i}") for i, x in enumerate(finer, 1)), top]
        resized = [ops.resize_bilinear(x, levels[0].shape[1:3]) for x in outputs]
        fused = layer(jnp.concatenate(resized, axis=-1), 3, "fusion")
        return PixelClassifier(self.num_classes, self.dropout, name="classifier")(fused, train)


class AuxiliaryHead(nn.Module):
    """One convolution and a classifier: an FCN (arXiv 1411.4038)."""

    num_classes: int
    width: int
    dropout: float
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """`x` is `[B, H, W, C]`; returns `[B, H, W, num_classes]` float32."""
        x = ConvNormReLU(self.width, 3, self.dtype, name="hidden")(x, train)
        return PixelClassifier(self.num_classes, self.dropout, name="classifier")(x, train)


def torch_names(head: UperNet) -> Iterator[Entry]:
    """The names of mmsegmentation's checkpoints."""
    torch, flax = "decode_head", "decode_head"
    for i, cells in enumerate(_POOLED):
        yield from conv_norm_names(f"{torch}.psp_modules.{i}.1", f"{flax}/pooled{cells}")
    yield from conv_norm_names(f"{torch}.bottleneck", f"{flax}/bottleneck")
    for i in range(len(head.in_channels) - 1):
        yield from conv_norm_names(f"{torch}.lateral_convs.{i}", f"{flax}/lateral{i + 1}")
        yield from conv_norm_names(f"{torch}.fpn_convs.{i}", f"{flax}/output{i + 1}")
    yield from conv_norm_names(f"{torch}.fpn_bottleneck", f"{flax}/fusion")
    yield from classifier_names(torch, flax)
    yield from conv_norm_names("auxiliary_head.convs.0", "auxiliary_head/hidden")
    yield from classifier_names("auxiliary_head", "auxiliary_head")
