"""CLUENet: cluster attention makes neural networks have eyes (AAAI 2026, arXiv 2512.06345).

An embedding and four stages of blocks, a cluster pooling between the stages. A block is
cluster attention, then an MLP, each normalized before and added to its input. The first
block of a stage assigns its pixels to centers; the stage's later blocks use that assignment.
"""

import types
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax import ops
from cluenet_jax.models import torch_names as names
from cluenet_jax.models.backbones.family import Family, Variant
from cluenet_jax.models.cluster_attention import AttentionConfig, ClusterAttention
from cluenet_jax.models.cluster_pooling import POOLINGS, ClusterPooling
from cluenet_jax.models.features import (
    Features,
    StageMaps,
    check_images,
    for_each_image,
    window_owners,
)
from cluenet_jax.models.layers import (
    ConvMLP,
    DepthwiseConv,
    FourStages,
    check_backbone,
    conv,
    drop_path,
    drop_path_rates,
    layer_norm,
    rematerialized,
    with_coordinates,
)

_EPSILON = 1e-5


class Embedding(nn.Module):
    """Coordinates, patch convolution, LayerNorm, positional convolution."""

    features: int
    patch: tuple[int, int, int]
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """`[B, H, W, 3]` to `[B, H', W', features]`."""
        x = conv(self.features, *self.patch, "conv", self.dtype)(with_coordinates(images))
        x = layer_norm("norm", self.dtype, _EPSILON)(x)
        return x + DepthwiseConv(self.dtype, name="position")(x)


class Block(nn.Module):
    """Cluster attention, then the MLP, each normalized before and added to its input."""

    attention: AttentionConfig
    mlp_ratio: int
    drop_path: float

    @nn.compact
    def __call__(self, x: jax.Array, assignment: tuple | None, train: bool) -> tuple:
        """`x` is `[B, H, W, C]`; returns what `ClusterAttention` does."""
        dtype = self.attention.dtype
        drop = drop_path(self.drop_path, train)
        # Pixels in one axis: TPUs would pad two of them.
        points = x.reshape(x.shape[0], -1, x.shape[-1])
        attention = ClusterAttention(self.attention, name="attention")
        normed = layer_norm("norm1", dtype, _EPSILON)(points)
        y, assignment, gate = attention(normed.reshape(x.shape), assignment)
        points = points + drop(y.reshape(points.shape))
        mlp = ConvMLP(x.shape[-1] * self.mlp_ratio, residual=False, dtype=dtype, name="mlp")
        normed = layer_norm("norm2", dtype, _EPSILON)(points)
        points = points + drop(mlp(normed, x.shape[1:3]))
        return points.reshape(x.shape), assignment, gate


class CLUENet(FourStages):
    """The backbone; `FAMILY` holds the published sizes.

    Attributes:
      dims, depths, num_heads, mlp_ratios: Channels, blocks, heads and MLP expansion of the
        four stages.
      head_dim: Width D of a head, even.
      center_grid: Rows and columns of the attention's centers.
      patch: Size, stride and padding of the patch convolution.
      drop_path: Drop rate of the last block; rates grow linearly from 0.
      min_temperature: Lower bound of the aggregation's temperature.
      norm_after_pooling: Whether a LayerNorm follows the pooling's MLP.
      pooling: "icp" (published), "fec" or "shared" (ablations of Figure 4).
      gate: Gated fusion on or off.
      share_assignment: Whether later blocks of a stage use the first block's assignment.
      learn_temperature: Whether the temperature is learned or stays 2.13.
      dispatch: "hard" (published) or "soft".
      level_norms: Whether each level is given out through a LayerNorm of its own, for heads
        that read all levels; a classifier's only norm is in its head.
      remat: What training computes again to save memory, a key of `layers.REMAT`.
      dtype: Type of the matrix products; parameters, norms, similarities, softmax and argmax
        stay float32.
    """

    dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    num_heads: tuple[int, int, int, int]
    head_dim: int
    center_grid: tuple[int, int]
    mlp_ratios: tuple[int, int, int, int]
    patch: tuple[int, int, int]
    drop_path: float
    min_temperature: float
    norm_after_pooling: bool
    pooling: str = "icp"
    gate: bool = True
    share_assignment: bool = True
    learn_temperature: bool = True
    dispatch: str = "hard"
    level_norms: bool = False
    remat: str = "none"
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        super().__post_init__()
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling={self.pooling!r} is not one of {', '.join(POOLINGS)}.")
        check_backbone(
            self.drop_path,
            self.remat,
            self.patch,
            dims=self.dims,
            depths=self.depths,
            num_heads=self.num_heads,
            mlp_ratios=self.mlp_ratios,
        )
        for stage in range(4):
            self._attention(stage)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> Features:
        """Runs the backbone.

        Args:
          images: `[B, H, W, 3]`, normalized RGB; H and W at least the patch size.
          train: Whether branches are dropped; needs the random stream `dropout`.

        Returns:
          The levels `[B, H_s, W_s, dims[s]]`, and of each stage the first block's clusters and
          weights (with soft dispatch the best of all scores), all blocks' gates, and the coarse
          cells that its pixels joined in the pooling.
        """
        size, stride, padding = self.patch
        check_images(images, max(size - 2 * padding, 1))
        levels, maps = [], []
        x = Embedding(self.dims[0], self.patch, self.dtype, name="embed")(images.astype(self.dtype))
        owners = window_owners(images.shape[1:3], x.shape[1:3], size, stride, padding)
        for stage in range(4):
            x, stage_maps = self._run_stage(x, stage, train)
            norm = layer_norm(f"stage{stage + 1}_norm", self.dtype, _EPSILON)
            levels.append(norm(x) if self.level_norms else x)
            if stage < 3:
                x, parents = ClusterPooling(
                    self.dims[stage + 1],
                    self.pooling,
                    self.norm_after_pooling,
                    _EPSILON,
                    self.dtype,
                    name=f"pool{stage + 1}",
                )(x)
                stage_maps = stage_maps.replace(parents=parents)
            maps.append(stage_maps)
        return Features(tuple(levels), tuple(maps), for_each_image(owners, images.shape[0]))

    @nn.nowrap
    def _attention(self, stage: int) -> AttentionConfig:
        return AttentionConfig(
            self.num_heads[stage],
            self.head_dim,
            tuple(self.center_grid),
            self.min_temperature,
            self.gate,
            self.learn_temperature,
            self.dispatch,
            self.dtype,
        )

    def _run_stage(self, x: jax.Array, stage: int, train: bool) -> tuple[jax.Array, StageMaps]:
        rates = drop_path_rates(self.drop_path, self.depths)[stage]
        block_class = rematerialized(Block, self.remat, train_argument=2)
        first, gates = None, []
        for i, rate in enumerate(rates):
            block = block_class(
                self._attention(stage),
                self.mlp_ratios[stage],
                rate,
                name=f"stage{stage + 1}_block{i}",
            )
            x, assignment, gate = block(x, first if self.share_assignment else None, train)
            first = first or assignment
            gates.append(gate)
        index, weight = first if len(first) == 2 else ops.hard_assign(*first)
        grid = (x.shape[0], -1, *x.shape[1:3])
        gate = None
        if self.gate:
            gate = jnp.stack(gates, axis=1)
            gate = gate.reshape(*gate.shape[:3], *self.center_grid)
        return x, StageMaps(index.reshape(grid), weight.reshape(grid), gate=gate)


def torch_names(backbone: CLUENet) -> Iterator[names.Entry]:
    """The names of the published code's checkpoints."""
    yield from names.layer("patch_embed.proj", "embed/conv", names.CONV)
    yield from names.norm("patch_embed.norm", "embed/norm")
    yield from names.layer("pos_embed.proj.0", "embed/position", names.DEPTHWISE)
    for stage, depth in enumerate(backbone.depths):
        for block in range(depth):
            torch, flax = f"network.{2 * stage}.blocks.{block}", f"stage{stage + 1}_block{block}"
            yield from names.norm(f"{torch}.norm1", f"{flax}/norm1")
            own_assignment = block == 0 or not backbone.share_assignment
            yield from names.below(
                _attention_names(backbone, own_assignment),
                f"{torch}.token_mixer.",
                f"{flax}/attention",
            )
            yield from names.norm(f"{torch}.norm2", f"{flax}/norm2")
            yield from names.layer(f"{torch}.mlp.fc1", f"{flax}/mlp/expand", names.LINEAR)
            yield from names.layer(
                f"{torch}.mlp.dwconv.dwconv", f"{flax}/mlp/depthwise", names.DEPTHWISE
            )
            yield from names.layer(f"{torch}.mlp.fc2", f"{flax}/mlp/project", names.LINEAR)
        if stage < 3:
            torch, flax = f"network.{2 * stage + 1}", f"pool{stage + 1}"
            yield from names.norm(f"{torch}.norm1", f"{flax}/norm")
            if backbone.norm_after_pooling:
                yield from names.norm(f"{torch}.norm2", f"{flax}/norm_after")
            yield from names.layer(f"{torch}.conv_f", f"{flax}/value", names.CONV1X1)
            yield from names.layer(f"{torch}.conv_v.0", f"{flax}/expand", names.CONV1X1)
            yield from names.layer(f"{torch}.conv_v.2", f"{flax}/project", names.CONV1X1)
            yield from names.layer(f"{torch}.conv_skip", f"{flax}/skip", names.CONV)
        if backbone.level_norms:
            yield from names.norm(f"norm{2 * stage}", f"stage{stage + 1}_norm")


def _attention_names(backbone: CLUENet, own_assignment: bool) -> Iterator[names.Entry]:
    if backbone.learn_temperature:
        yield names.Entry("attn_alpha", "alpha", names.SAME)
    if own_assignment:
        yield names.Entry("sim_alpha", "scale", names.SCALAR)
        yield names.Entry("sim_beta", "shift", names.SCALAR)
        yield from names.layer("q", "query", names.LINEAR)
    yield from names.layer("k", "key", names.CONV1X1)
    yield from names.layer("v", "value", names.CONV1X1)
    yield from names.layer("proj", "out", names.CONV1X1)
    if backbone.gate:
        yield names.Entry("gate.fc1.weight", "gate/w1", names.PER_HEAD)
        yield names.Entry("gate.fc1.bias", "gate/b1", names.SAME)
        yield names.Entry("gate.fc2.weight", "gate/w2", names.PER_HEAD_ROW)
        yield names.Entry("gate.fc2.bias", "gate/b2", names.PER_HEAD_SCALAR)


def _variant(num_classes: int = 100, **sizes) -> Variant:
    published = dict(
        mlp_ratios=(8, 8, 4, 4),
        center_grid=(7, 7),
        patch=(4, 4, 0),
        drop_path=0.1,
        min_temperature=1e-4,
    )
    return Variant(types.MappingProxyType({**published, **sizes}), num_classes)


_MICRO = dict(dims=(32, 64, 160, 256), depths=(2, 2, 2, 2), num_heads=(1, 2, 5, 8), head_dim=32)
_WIDE = dict(dims=(64, 128, 320, 512), head_dim=32, drop_path=0.3, norm_after_pooling=False)

# The published sizes (paper, Tables 1 and 2; tensor shapes of the checkpoints),
# and `cluenet_nano`, ours, for small images and quick tries.
_VARIANTS = dict(
    cluenet_nano=_variant(
        num_classes=10,
        dims=(32, 48, 64, 96),
        depths=(1, 1, 2, 1),
        num_heads=(2, 2, 4, 4),
        head_dim=16,
        center_grid=(4, 4),
        mlp_ratios=(4, 4, 4, 4),
        patch=(2, 2, 0),
        norm_after_pooling=True,
    ),
    cluenet_mini_cifar=_variant(
        **_MICRO, center_grid=(4, 4), patch=(3, 1, 1), norm_after_pooling=True
    ),
    cluenet_micro=_variant(**_MICRO, norm_after_pooling=True),
    cluenet_tiny=_variant(
        dims=(32, 64, 196, 320),
        depths=(3, 4, 5, 2),
        num_heads=(4, 4, 8, 8),
        head_dim=24,
        norm_after_pooling=False,
    ),
    cluenet_small=_variant(**_WIDE, depths=(2, 2, 6, 2), num_heads=(4, 4, 8, 8)),
    cluenet_base=_variant(**_WIDE, depths=(4, 4, 12, 4), num_heads=(6, 6, 12, 12)),
)

FAMILY = Family(
    CLUENet,
    types.MappingProxyType(_VARIANTS),
    torch_names,
    classifier=types.MappingProxyType({"norm_epsilon": _EPSILON}),
    pyramid=types.MappingProxyType({"level_norms": True}),
)
