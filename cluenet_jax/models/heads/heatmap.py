"""Heads of pose estimation: a heatmap for each keypoint, as SimpleBaseline's or by an FPN."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax.models import torch_names as names
from cluenet_jax.models.batch_norm import BatchNorm
from cluenet_jax.models.features import check_levels
from cluenet_jax.models.heads import fpn
from cluenet_jax.models.heads.layers import check_sizes

_init = nn.initializers.normal(0.001)
_KERNEL = 4


class HeatmapDeconv(nn.Module):
    """Transposed convolutions on the last level (arXiv 1804.06208), as mmpose's `HeatmapHead`.

    Attributes:
      in_channels: Width of each level, finest first; only the last one is read.
      num_keypoints: Number of heatmaps.
      width: Channels of the transposed convolutions.
      num_doublings: Number of them; each has a kernel of 4x4 pixels and a stride of 2.
      dtype: Type of the activations; parameters, statistics and heatmaps are float32.
    """

    in_channels: tuple[int, ...]
    num_keypoints: int
    width: int = 256
    num_doublings: int = 3
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        super().__post_init__()
        check_sizes(width=self.width, num_doublings=self.num_doublings)

    @nn.compact
    def __call__(self, levels: tuple[jax.Array, ...], train: bool = False) -> jax.Array:
        """Runs the head.

        Args:
          levels: `[B, H_s, W_s, C_s]` of each stage, of any sizes.
          train: Whether BatchNorm takes the batch's statistics.

        Returns:
          float32 `[B, H, W, num_keypoints]`, with the default 8 times as fine as the last level.

        Raises:
          ValueError: Levels of other widths than `in_channels`.
        """
        check_levels(levels, self.in_channels)
        x = levels[-1]
        for i in range(1, self.num_doublings + 1):
            x = TransposedConv(self.width, self.dtype, name=f"deconv{i}")(x)
            x = nn.relu(BatchNorm(self.dtype, name=f"bn{i}")(x, train))
        return heatmaps(self.num_keypoints)(x.astype(jnp.float32))


class TransposedConv(nn.Module):
    """A transposed convolution of 4x4 pixels with stride 2 and padding 1, without bias.

    Every second pixel of the result, along each axis, is an ordinary convolution of two pixels
    with every second weight: all four such sets come of one product with 2x2 pixels.
    """

    width: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to `[B, 2 H, 2 W, width]`."""
        batch, height, width, channels = x.shape
        shape = (_KERNEL, _KERNEL, channels, self.width)
        kernel = self.param("kernel", _init, shape).astype(self.dtype)
        # Weight 2 t + s becomes tap 1 - t of the pixels of parity 1 - s.
        taps = kernel.reshape(2, 2, 2, 2, channels, self.width)[::-1, ::-1, ::-1, ::-1]
        taps = taps.transpose(0, 2, 4, 1, 3, 5).reshape(4 * channels, 4 * self.width)
        framed = jnp.pad(x.astype(self.dtype), ((0, 0), (1, 1), (1, 1), (0, 0)))
        # A product: XLA's gradient of such a convolution takes seconds on a CPU.
        corners = [framed[:, a : a + height + 1, b : b + width + 1] for a in (0, 1) for b in (0, 1)]
        y = jnp.concatenate(corners, axis=-1) @ taps
        y = y.reshape(batch, height + 1, width + 1, 2, 2, self.width)
        rows = [
            jnp.stack([y[:, a : a + height, b : b + width, a, b] for b in (0, 1)], axis=3)
            for a in (0, 1)
        ]
        return jnp.stack(rows, axis=2).reshape(batch, 2 * height, 2 * width, self.width)


class HeatmapFPN(nn.Module):
    """An FPN with bilinear upsampling and a linear map of its first level, as mmpose's of Swin.

    Attributes:
      in_channels: Width of each level, finest first.
      num_keypoints: Number of heatmaps.
      width: Channels of the FPN.
      dtype: Type of the activations; parameters and heatmaps are float32.
    """

    in_channels: tuple[int, ...]
    num_keypoints: int
    width: int = 256
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        super().__post_init__()
        check_sizes(width=self.width)

    @nn.compact
    def __call__(self, levels: tuple[jax.Array, ...], train: bool = False) -> jax.Array:
        """Runs the head.

        Args:
          levels: `[B, H_s, W_s, C_s]` of each stage, of any sizes.
          train: Not used; there is nothing that training does otherwise.

        Returns:
          float32 `[B, H_1, W_1, num_keypoints]`.

        Raises:
          ValueError: Levels of other widths than `in_channels`.
        """
        del train
        check_levels(levels, self.in_channels)
        neck = fpn.FPN(self.width, upsampling="bilinear", dtype=self.dtype, name="neck")
        return heatmaps(self.num_keypoints)(neck(levels)[0].astype(jnp.float32))


def heatmaps(num_keypoints: int) -> nn.Dense:
    """The last linear map of a head of pose estimation."""
    return nn.Dense(num_keypoints, kernel_init=_init, name="classifier")


def final_names() -> Iterator[names.Entry]:
    """The names of `heatmaps` in mmpose's checkpoints."""
    yield from names.layer("head.final_layer", "classifier", names.CONV1X1)


def deconv_torch_names(head: HeatmapDeconv) -> Iterator[names.Entry]:
    """The names of mmpose's checkpoints (1.x); convolution, norm and ReLU count as modules."""
    for i in range(head.num_doublings):
        torch, number = f"head.deconv_layers.{3 * i}.weight", i + 1
        yield names.Entry(torch, f"deconv{number}/kernel", names.TRANSPOSED_CONV)
        yield from names.batch_norm(f"head.deconv_layers.{3 * i + 1}", f"bn{number}")
    yield from final_names()


def fpn_torch_names(head: HeatmapFPN) -> Iterator[names.Entry]:
    """The names of mmpose's checkpoints (1.x)."""
    yield from names.below(fpn.torch_names(len(head.in_channels)), "neck.", "neck")
    yield from final_names()
