"""ClusTR: efficient self-attention via clustering for vision transformers (arXiv 2208.13138).

Four stages of overlapping patches, transformer blocks and a LayerNorm. In a block
with reduction r > 1 the queries are all N tokens, and the keys and values are
clustered tokens at several scales:

    n = N // r^2, and for each scale s of the scales (1, 4):
    index = DPC-KNN of the tokens into s n clusters     no gradient, see ops/density_peaks.py
    x_s = weighted mean of each cluster's tokens, weights exp(W_w x)
    K_s, V_s = W_s x_s                                  a projection per scale
    out = W_o sum_s softmax(Q K_s^T / sqrt(d)) V_s

The last stage has reduction 1: plain self-attention.
"""

import types
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax import ops
from cluenet_jax.models import torch_names as names
from cluenet_jax.models.backbones.family import Family, Variant
from cluenet_jax.models.features import (
    Features,
    StageMaps,
    check_images,
    for_each_image,
    window_owners,
)
from cluenet_jax.models.layers import (
    ConvMLP,
    FourStages,
    check_backbone,
    conv,
    drop_path,
    drop_path_rates,
    layer_norm,
    linear,
    rematerialized,
)

_EPSILON, _PATCH_EPSILON = 1e-6, 1e-5
# Size and stride of the patch convolutions after the first one.
_LATER_PATCH = (3, 2)


class ClusteredAttention(nn.Module):
    """Self-attention whose keys and values are clustered tokens.

    Attributes:
      num_heads: Number of heads; divides the channels.
      sr_ratio: r; a scale s has about s N / r^2 clusters. 1 means plain attention.
      cluster_scales: The scales, ascending.
      num_neighbors: Tokens that a density is measured over.
      cluster_parts: Parts of each axis of the map that are clustered alone.
      dtype: Type of the matrix products.
    """

    num_heads: int
    sr_ratio: int
    cluster_scales: tuple[int, ...]
    num_neighbors: int
    cluster_parts: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, grid: tuple[int, int]) -> tuple[jax.Array, jax.Array | None]:
        """`x` is `[B, N, C]`, of the rows and columns of a grid.

        Returns:
          `[B, N, C]`, and the assignment `[B, scales, N]` int32 (None for plain attention).
        """
        channels = x.shape[-1]
        query = self._split(linear(channels, "query", self.dtype)(x))
        if self.sr_ratio == 1:
            out, assignment = self._attend(query, x, "key_value"), None
        else:
            weights = jnp.exp(linear(1, "weight", jnp.float32)(x))
            merged, assignment = self._merge(x, weights, grid)
            out = sum(
                self._attend(query, tokens, f"key_value{i + 1}", finer=i > 0)
                for i, tokens in enumerate(merged)
            )
        out = out.transpose(0, 2, 1, 3).reshape(x.shape)
        return linear(channels, "out", self.dtype)(out), assignment

    def _merge(
        self, x: jax.Array, weights: jax.Array, grid: tuple[int, int]
    ) -> tuple[list[jax.Array], jax.Array]:
        """The clustered tokens of each scale, and how they were clustered."""
        batch, tokens, _ = x.shape
        coarsest = max(tokens // self.sr_ratio**2, 1)
        counts = [min(scale * coarsest, tokens) for scale in self.cluster_scales]
        counts = [ops.clusters_in_parts(grid, count, self.cluster_parts) for count in counts]
        # With a cluster for each token every token is its own center: nothing to compute.
        itself = jnp.broadcast_to(jnp.arange(tokens, dtype=jnp.int32), (batch, tokens))
        smaller = [count for count in counts if count < tokens]
        with jax.named_scope("clustering"):
            clustered = (
                ops.cluster_in_parts(x, grid, smaller, self.num_neighbors, self.cluster_parts)
                if smaller
                else ()
            )
        indices = iter(clustered)
        merged, assignments = [], []
        for count in counts:
            if count < tokens:
                index = next(indices)
                merged.append(ops.merge_tokens(x, weights, index, count))
            else:
                index = itself
                merged.append((x * (weights / (weights + 1e-6))).astype(x.dtype))
            assignments.append(index)
        return merged, jnp.stack(assignments, axis=1)

    def _attend(
        self, query: jax.Array, tokens: jax.Array, name: str, finer: bool = False
    ) -> jax.Array:
        """`[B, G, N, D]`, what the queries take from the tokens `[B, M, C]`."""
        channels = tokens.shape[-1]
        both = linear(2 * channels, name, self.dtype)(tokens)
        key, value = (self._split(part) for part in jnp.split(both, 2, axis=-1))
        # Publications count the attention to the coarsest scale only (see macs.py).
        with jax.named_scope("finer_scale" if finer else "attention"):
            return ops.attend(query, key, value)

    def _split(self, x: jax.Array) -> jax.Array:
        """`[B, N, G*D]` to `[B, G, N, D]`."""
        batch, tokens, channels = x.shape
        split = x.reshape(batch, tokens, self.num_heads, channels // self.num_heads)
        return split.transpose(0, 2, 1, 3)


class Block(nn.Module):
    """Clustered attention, then the MLP, each normalized before and added to its input."""

    attention: ClusteredAttention
    mlp_ratio: int
    drop_path: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array | None]:
        """`x` is `[B, H, W, C]`; also returns the assignment `[B, scales, H, W]` or None."""
        batch, height, width, channels = x.shape
        dtype = self.attention.dtype
        drop = drop_path(self.drop_path, train)
        # Pixels in one axis: TPUs would pad two of them.
        tokens = x.reshape(batch, height * width, channels)
        y, assignment = self.attention(
            layer_norm("norm1", dtype, _EPSILON)(tokens), (height, width)
        )
        tokens = tokens + drop(y)
        mlp = ConvMLP(channels * self.mlp_ratio, residual=True, dtype=dtype, name="mlp")
        normed = layer_norm("norm2", dtype, _EPSILON)(tokens)
        x = (tokens + drop(mlp(normed, (height, width)))).reshape(x.shape)
        if assignment is not None:
            assignment = assignment.reshape(batch, -1, height, width)
        return x, assignment


class ClusTR(FourStages):
    """The backbone; `FAMILY` holds the published sizes.

    Attributes:
      dims, depths, num_heads, mlp_ratios, sr_ratios: Channels, blocks, heads, MLP expansion
        and reduction r of the four stages.
      drop_path: Drop rate of the last block; rates grow linearly from 0.
      patch: Size and stride of the first patch convolution; later ones are 3 and 2.
      cluster_scales: Scales of clustering: (1, 4) published, (1,) for a single one.
      num_neighbors: Tokens that a density is measured over.
      cluster_parts: Of each stage, the parts of each axis of the map that are clustered alone;
        ours, see ops/parts.py. 1 is the published model.
      remat: What training computes again to save memory, a key of `layers.REMAT`.
      dtype: Type of the matrix products; parameters, norms, softmax, distances and merged
        sums stay float32.
    """

    dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    num_heads: tuple[int, int, int, int]
    mlp_ratios: tuple[int, int, int, int]
    sr_ratios: tuple[int, int, int, int]
    drop_path: float
    patch: tuple[int, int] = (7, 4)
    cluster_scales: tuple[int, ...] = (1, 4)
    num_neighbors: int = 5
    cluster_parts: tuple[int, int, int, int] = (1, 1, 1, 1)
    remat: str = "none"
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        super().__post_init__()
        scales = tuple(self.cluster_scales)
        if not scales or min(scales) < 1 or list(scales) != sorted(set(scales)):
            raise ValueError(f"cluster_scales={scales} must be ascending numbers from 1 on.")
        if self.num_neighbors < 1:
            raise ValueError(f"num_neighbors={self.num_neighbors} must be at least 1.")
        check_backbone(
            self.drop_path,
            self.remat,
            self.patch,
            dims=self.dims,
            depths=self.depths,
            num_heads=self.num_heads,
            mlp_ratios=self.mlp_ratios,
            sr_ratios=self.sr_ratios,
            cluster_parts=self.cluster_parts,
        )
        for width, heads in zip(self.dims, self.num_heads, strict=True):
            if width % heads:
                raise ValueError(f"num_heads={heads} must divide the stage's {width} channels.")

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> Features:
        """Runs the backbone.

        Args:
          images: `[B, H, W, 3]`, normalized RGB, any size.
          train: Whether branches are dropped; needs the random stream `dropout`.

        Returns:
          The levels `[B, H_s, W_s, dims[s]]` after each stage's norm, and of each stage the
          clusters of its last block, one map per scale, cluster 0 the strongest (of the first
          part, with parts); where the reduction is 1 each token is a cluster of its own. A
          pixel's parent is the token of the next stage whose patch is nearest.
        """
        check_images(images)
        batch = images.shape[0]
        x = images.astype(self.dtype)
        levels, maps, owners = [], [], []
        for stage in range(4):
            grid = x.shape[1:3]
            size, stride = self.patch if stage == 0 else _LATER_PATCH
            x = conv(
                self.dims[stage], size, stride, size // 2, f"stage{stage + 1}_patch", self.dtype
            )(x)
            window = window_owners(grid, x.shape[1:3], size, stride, size // 2)
            owners.append(for_each_image(window, batch))
            x, clusters = self._run_stage(x, stage, train)
            levels.append(x)
            maps.append(StageMaps(clusters))
        for stage in range(3):
            maps[stage] = maps[stage].replace(parents=owners[stage + 1])
        return Features(tuple(levels), tuple(maps), owners[0])

    def _run_stage(self, x: jax.Array, stage: int, train: bool) -> tuple[jax.Array, jax.Array]:
        name = f"stage{stage + 1}"
        x = layer_norm(f"{name}_patch_norm", self.dtype, _PATCH_EPSILON)(x)
        block_class = rematerialized(Block, self.remat, train_argument=1)
        for i, rate in enumerate(drop_path_rates(self.drop_path, self.depths)[stage]):
            attention = ClusteredAttention(
                self.num_heads[stage],
                self.sr_ratios[stage],
                tuple(self.cluster_scales),
                self.num_neighbors,
                self.cluster_parts[stage],
                self.dtype,
                parent=None,
            )
            block = block_class(attention, self.mlp_ratios[stage], rate, name=f"{name}_block{i}")
            x, clusters = block(x, train)
        # In float32 it changes nothing, but stops XLA's CPU backend from computing the
        # last MLP within the norm, which is several times slower.
        x = jax.lax.reduce_precision(x, jnp.finfo(x.dtype).nexp, jnp.finfo(x.dtype).nmant)
        x = layer_norm(f"{name}_norm", self.dtype, _EPSILON)(x)
        if clusters is None:
            batch, height, width, _ = x.shape
            tokens = jnp.arange(height * width, dtype=jnp.int32).reshape(1, 1, height, width)
            clusters = jnp.broadcast_to(tokens, (batch, 1, height, width))
        return x, clusters


def torch_names(backbone: ClusTR) -> Iterator[names.Entry]:
    """The names of the published code's checkpoints."""
    for stage, depth in enumerate(backbone.depths):
        number, name = stage + 1, f"stage{stage + 1}"
        yield from names.layer(f"patch_embed{number}.proj", f"{name}_patch", names.CONV)
        yield from names.norm(f"patch_embed{number}.norm", f"{name}_patch_norm")
        for block in range(depth):
            torch, flax = f"block{number}.{block}", f"{name}_block{block}"
            attention = f"{flax}/attention"
            yield from names.norm(f"{torch}.norm1", f"{flax}/norm1")
            yield from names.layer(f"{torch}.attn.q", f"{attention}/query", names.LINEAR)
            if backbone.sr_ratios[stage] == 1:
                yield from names.layer(f"{torch}.attn.kv", f"{attention}/key_value", names.LINEAR)
            else:
                yield from names.layer(
                    f"{torch}.attn.weight_layer", f"{attention}/weight", names.LINEAR
                )
                for i in range(1, len(backbone.cluster_scales) + 1):
                    yield from names.layer(
                        f"{torch}.attn.kv{i}", f"{attention}/key_value{i}", names.LINEAR
                    )
            yield from names.layer(f"{torch}.attn.proj", f"{attention}/out", names.LINEAR)
            yield from names.norm(f"{torch}.norm2", f"{flax}/norm2")
            yield from names.layer(f"{torch}.mlp.fc1", f"{flax}/mlp/expand", names.LINEAR)
            yield from names.layer(
                f"{torch}.mlp.dwconv.dwconv", f"{flax}/mlp/depthwise", names.DEPTHWISE
            )
            yield from names.layer(f"{torch}.mlp.fc2", f"{flax}/mlp/project", names.LINEAR)
        yield from names.norm(f"norm{number}", f"{name}_norm")


def _variant(num_classes: int = 1000, **sizes) -> Variant:
    published = dict(
        num_heads=(1, 2, 4, 8), mlp_ratios=(8, 8, 4, 4), sr_ratios=(8, 4, 2, 1), drop_path=0.1
    )
    return Variant(types.MappingProxyType({**published, **sizes}), num_classes)


# The published sizes (paper, Table 1: ClusTR-T, -S and -B), and `clustr_nano`,
# ours, for small images and quick tries.
_VARIANTS = dict(
    clustr_nano=_variant(
        num_classes=10,
        dims=(32, 48, 64, 96),
        depths=(1, 1, 2, 1),
        num_heads=(1, 2, 2, 3),
        mlp_ratios=(4, 4, 4, 4),
        patch=(3, 2),
    ),
    clustr_b1=_variant(dims=(64, 128, 256, 512), depths=(1, 2, 6, 1)),
    clustr_b2=_variant(dims=(64, 128, 256, 512), depths=(3, 5, 13, 2)),
    clustr_b3=_variant(
        dims=(64, 128, 320, 512), depths=(3, 5, 18, 3), num_heads=(1, 2, 5, 8), drop_path=0.3
    ),
)

FAMILY = Family(ClusTR, types.MappingProxyType(_VARIANTS), torch_names)
