"""The pose head of TCFormer, whose clustering ClusTR shares: a pyramid of attention blocks."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax import ops
from cluenet_jax.models import torch_names as names
from cluenet_jax.models.features import check_levels
from cluenet_jax.models.heads.heatmap import final_names, heatmaps
from cluenet_jax.models.heads.layers import check_sizes
from cluenet_jax.models.layers import DepthwiseConv, layer_norm, linear

_EPSILON = 1e-5


class HeatmapMTA(nn.Module):
    """Multi-stage token aggregation (arXiv 2204.08680) on regular grids, then heatmaps.

    From the top down each level's linear map is added to the coarser result, and a transformer
    block follows, but for the coarsest.

    Attributes:
      in_channels: Width of each level, finest first.
      num_keypoints: Number of heatmaps.
      width: Channels of all levels.
      num_heads: Of the attention; a divisor of `width`.
      mlp_ratio: Width of the hidden layer over `width`.
      dtype: Type of the activations; parameters and heatmaps are float32.
    """

    in_channels: tuple[int, ...]
    num_keypoints: int
    width: int = 256
    num_heads: int = 4
    mlp_ratio: int = 4
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        super().__post_init__()
        check_sizes(width=self.width, num_heads=self.num_heads, mlp_ratio=self.mlp_ratio)
        if self.width % self.num_heads:
            raise ValueError(
                f"width={self.width} must be a multiple of num_heads={self.num_heads}."
            )

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
        init = nn.initializers.xavier_uniform()
        laterals = [
            nn.Dense(self.width, kernel_init=init, dtype=self.dtype, name=f"lateral{i}")(level)
            for i, level in enumerate(levels, 1)
        ]
        x = laterals[-1]
        for i in reversed(range(len(levels) - 1)):
            x = laterals[i] + ops.resize_nearest(x, laterals[i].shape[1:3])
            # Keys are means of 8x8 pixels at the finest of four levels, of 2x2 at the last but one.
            cell = 2 ** (len(levels) - 1 - i)
            x = Block(cell, self.num_heads, self.mlp_ratio, self.dtype, name=f"block{i + 1}")(x)
        return heatmaps(self.num_keypoints)(x.astype(jnp.float32))


class Block(nn.Module):
    """Attention to the means of square cells, then an MLP with a depthwise convolution.

    Attributes:
      cell: Side of a cell.
      num_heads, mlp_ratio, dtype: As in `HeatmapMTA`.
    """

    cell: int
    num_heads: int
    mlp_ratio: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to the same."""
        y = layer_norm("norm1", self.dtype, _EPSILON)(x)
        x = x + _Attention(self.cell, self.num_heads, self.dtype, name="attention")(y)
        y = layer_norm("norm2", self.dtype, _EPSILON)(x)
        return x + _MLP(self.mlp_ratio, self.dtype, name="mlp")(y)


class _Attention(nn.Module):
    cell: int
    num_heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, height, width, channels = x.shape
        cells = (max(height // self.cell, 1), max(width // self.cell, 1))
        means = ops.adaptive_avg_pool(x, cells).reshape(batch, -1, channels)

        def heads(y: jax.Array, parts: int) -> list[jax.Array]:
            """`[B, G, N, D]` of each part of the channels."""
            y = y.reshape(batch, -1, parts, self.num_heads, channels // self.num_heads)
            return [y[:, :, part].swapaxes(1, 2) for part in range(parts)]

        (query,) = heads(linear(channels, "query", self.dtype)(x), 1)
        key, value = heads(linear(2 * channels, "key_value", self.dtype)(means), 2)
        y = ops.attend(query, key, value).swapaxes(1, 2).reshape(x.shape)
        return linear(channels, "project", self.dtype)(y)


class _MLP(nn.Module):
    ratio: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        hidden = linear(self.ratio * channels, "expand", self.dtype)(x)
        scale = self.param("skip", nn.initializers.ones, (self.ratio * channels,))
        y = DepthwiseConv(self.dtype, name="depthwise")(hidden) + scale.astype(self.dtype) * hidden
        return linear(channels, "project", self.dtype)(ops.gelu(y))


# [channels, 1, 1] <-> [channels]
_SKIP = names.Kind(lambda a: a[:, 0, 0], lambda a: a[:, None, None])


def torch_names(head: HeatmapMTA) -> Iterator[names.Entry]:
    """The names of mmpose's checkpoints of TCFormer, its last layer named as in 1.x."""
    num_levels = len(head.in_channels)
    for i in range(num_levels):
        torch = f"neck.lateral_convs.{i}.conv"
        yield from names.layer(torch, f"lateral{i + 1}", names.CONV1X1)
    for i in range(num_levels - 1):
        torch, flax = f"neck.merge_blocks.{i}", f"block{i + 1}"
        yield from names.norm(f"{torch}.norm1", f"{flax}/norm1")
        yield from names.norm(f"{torch}.norm2", f"{flax}/norm2")
        for ours, theirs in (
            ("attention/query", "attn.q"),
            ("attention/key_value", "attn.kv"),
            ("attention/project", "attn.proj"),
            ("mlp/expand", "mlp.fc1"),
            ("mlp/project", "mlp.fc2"),
        ):
            yield from names.layer(f"{torch}.{theirs}", f"{flax}/{ours}", names.LINEAR)
        yield from names.layer(f"{torch}.mlp.dwconv", f"{flax}/mlp/depthwise", names.DEPTHWISE)
        yield names.Entry(f"{torch}.mlp.dwconv.skip.weight", f"{flax}/mlp/skip", _SKIP)
    yield from final_names()
