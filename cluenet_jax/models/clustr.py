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

import jax
import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax import ops
from cluenet_jax.models.layers import (
    DepthwiseConv,
    DropPath,
    check_network,
    conv_init,
    drop_path_rates,
    layer_norm,
    linear,
    rematerialized,
)


def _layer_norm(name: str, dtype: jnp.dtype, epsilon: float = 1e-6) -> nn.LayerNorm:
    return layer_norm(name, dtype, epsilon)


class ClusteredAttention(nn.Module):
    """Self-attention whose keys and values are clustered tokens.

    Attributes:
      heads: Number of heads; divides the channels.
      reduction: r; a scale s has about s N / r^2 clusters. 1 means plain attention.
      cluster_scales: The scales, ascending.
      neighbours: Of the densities.
    """

    heads: int
    reduction: int
    cluster_scales: tuple[int, ...]
    neighbours: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """`x` is `[B, N, C]`.

        Returns:
          `[B, N, C]`, and the assignment `[B, scales, N]` int32 (None for plain attention).
        """
        channels = x.shape[-1]
        query = self._split(linear(channels, "query", self.dtype)(x))
        if self.reduction == 1:
            out, assignment = self._attend(query, x, "key_value"), None
        else:
            weights = jnp.exp(linear(1, "weight", jnp.float32)(x))
            merged, assignment = self._merge(x, weights)
            out = sum(
                self._attend(query, tokens, f"key_value{i + 1}", finer=i > 0)
                for i, tokens in enumerate(merged)
            )
        out = out.transpose(0, 2, 1, 3).reshape(x.shape)
        return linear(channels, "out", self.dtype)(out), assignment

    def _merge(self, x: jax.Array, weights: jax.Array) -> tuple[list[jax.Array], jax.Array]:
        """The clustered tokens of each scale, and how they were clustered."""
        batch, tokens, _ = x.shape
        least = max(tokens // self.reduction**2, 1)
        counts = [min(scale * least, tokens) for scale in self.cluster_scales]
        # With a cluster for each token every token is its own centre: nothing to be found out.
        whole = jnp.broadcast_to(jnp.arange(tokens, dtype=jnp.int32), (batch, tokens))
        neighbours = min(self.neighbours, tokens)
        smaller = [count for count in counts if count < tokens]
        with jax.named_scope("clustering"):
            found = iter(ops.density_peak_clustering(x, smaller, neighbours) if smaller else ())
        merged, assignments = [], []
        for count in counts:
            if count < tokens:
                index = next(found)
                merged.append(ops.merge_tokens(x, weights, index, count))
            else:
                index = whole
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
        # Publications count the attention to the coarsest scale only (see summary.py).
        with jax.named_scope("finer_scale" if finer else "attention"):
            logits = jnp.einsum("bgnd,bgmd->bgnm", query, key, preferred_element_type=jnp.float32)
            weights = jax.nn.softmax(logits * query.shape[-1] ** -0.5)
            return jnp.einsum("bgnm,bgmd->bgnd", weights.astype(value.dtype), value)

    def _split(self, x: jax.Array) -> jax.Array:
        """`[B, N, G*D]` to `[B, G, N, D]`."""
        batch, tokens, channels = x.shape
        split = x.reshape(batch, tokens, self.heads, channels // self.heads)
        return split.transpose(0, 2, 1, 3)


class ConvMLP(nn.Module):
    """`W2 GELU(u + depthwise3x3(u))`, `u = W1 x`; `[B, H, W, C]` to the same."""

    hidden: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        u = linear(self.hidden, "expand", self.dtype)(x)
        y = ops.gelu(u + DepthwiseConv(self.dtype, name="depthwise")(u))
        return linear(x.shape[-1], "project", self.dtype)(y)


class Block(nn.Module):
    """Clustered attention, then the MLP, each normalised before and added to its input."""

    heads: int
    reduction: int
    cluster_scales: tuple[int, ...]
    neighbours: int
    mlp_ratio: int
    drop_path: float
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array | None]:
        """`x` is `[B, H, W, C]`; also returns the assignment `[B, scales, H, W]` or None."""
        batch, height, width, channels = x.shape
        drop = DropPath(self.drop_path)
        attention = ClusteredAttention(
            self.heads,
            self.reduction,
            self.cluster_scales,
            self.neighbours,
            self.dtype,
            name="attention",
        )
        normed = _layer_norm("norm1", self.dtype)(x)
        y, assignment = attention(normed.reshape(batch, -1, channels))
        x = x + drop(y.reshape(x.shape), train)
        mlp = ConvMLP(channels * self.mlp_ratio, self.dtype, name="mlp")
        x = x + drop(mlp(_layer_norm("norm2", self.dtype)(x)), train)
        if assignment is not None:
            assignment = assignment.reshape(batch, -1, height, width)
        return x, assignment


class ClusTR(nn.Module):
    """The network; `VARIANTS` holds the published sizes.

    Attributes:
      num_classes: Width of the logits.
      dims, depths, heads, mlp_ratios, reductions: Channels, blocks, heads, MLP
        expansion and reduction r of the four stages.
      drop_path: Drop rate of the last block; rates grow linearly from 0.
      patch: Size and stride of the first patch convolution; later ones are 3 and 2.
      cluster_scales: Scales of clustering: (1, 4) published, (1,) for a single one.
      neighbours: Tokens that a density is measured over.
      backbone: Return the four stage outputs instead of logits.
      remat: What training computes again to save memory, see `layers.REMAT`.
      dtype: Type of the matrix products; parameters, norms, softmax, distances and
        merged sums stay float32.
    """

    num_classes: int
    dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]
    mlp_ratios: tuple[int, int, int, int]
    reductions: tuple[int, int, int, int]
    drop_path: float
    patch: tuple[int, int] = (7, 4)
    cluster_scales: tuple[int, ...] = (1, 4)
    neighbours: int = 5
    backbone: bool = False
    remat: str = "none"
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        super().__post_init__()
        scales = tuple(self.cluster_scales)
        if not scales or min(scales) < 1 or list(scales) != sorted(set(scales)):
            raise ValueError(f"cluster_scales={scales} must be ascending numbers from 1 on.")
        if self.neighbours < 1:
            raise ValueError(f"neighbours={self.neighbours} must be at least 1.")
        check_network(self.num_classes, self.drop_path, self.backbone, self.remat)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False, return_maps: bool = False):
        """Runs the network.

        Args:
          images: `[B, H, W, 3]` normalised RGB, any size.
          train: Drops branches; needs the random stream `dropout`.
          return_maps: Also return how the tokens were clustered.

        Returns:
          Logits `[B, num_classes]` float32, or as a backbone the four stage outputs
          `[B, H_s, W_s, dims[s]]`. With `return_maps` a pair of that and a dict of
          arrays, for stage s = 1 .. 4:
            `stage{s}/features` `[B, H_s, W_s, dims[s-1]]`, after the stage's norm;
            `stage{s}/block{b}/assignment` `[B, scales, H_s, W_s]` int32, the cluster
              of each token (not where the reduction is 1);
            `pre_logits` `[B, dims[3]]` (not as a backbone).
        """
        if images.ndim != 4 or images.shape[-1] != 3 or min(images.shape[1:3]) < 1:
            raise ValueError(
                f"images have shape {images.shape}; expected [batch, height, width, 3]."
            )
        maps: dict[str, jax.Array] = {}
        outputs = []
        rates = drop_path_rates(self.drop_path, self.depths)
        block_class = rematerialized(Block, self.remat, train_argument=1)
        x = images.astype(self.dtype)
        for stage, depth in enumerate(self.depths):
            name = f"stage{stage + 1}"
            size, stride = self.patch if stage == 0 else (3, 2)
            x = nn.Conv(
                self.dims[stage],
                (size, size),
                strides=stride,
                padding=size // 2,
                kernel_init=conv_init,
                dtype=self.dtype,
                name=f"{name}_patch",
            )(x)
            x = _layer_norm(f"{name}_patch_norm", self.dtype, epsilon=1e-5)(x)
            for block in range(depth):
                x, assignment = block_class(
                    self.heads[stage],
                    self.reductions[stage],
                    tuple(self.cluster_scales),
                    self.neighbours,
                    self.mlp_ratios[stage],
                    rates[stage][block],
                    self.dtype,
                    name=f"{name}_block{block}",
                )(x, train)
                if assignment is not None:
                    maps[f"{name}/block{block}/assignment"] = assignment
            # In float32 it changes nothing, but stops XLA's CPU backend from computing the
            # last MLP within the norm, which is several times slower.
            x = jax.lax.reduce_precision(x, jnp.finfo(x.dtype).nexp, jnp.finfo(x.dtype).nmant)
            x = _layer_norm(f"{name}_norm", self.dtype)(x)
            maps[f"{name}/features"] = x
            outputs.append(x)
        if self.backbone:
            result = tuple(outputs)
        else:
            maps["pre_logits"] = x = x.mean(axis=(1, 2), dtype=jnp.float32)
            result = linear(self.num_classes, "head", jnp.float32)(x)
        return (result, maps) if return_maps else result


def _variant(**sizes) -> types.MappingProxyType:
    published = dict(
        num_classes=1000,
        heads=(1, 2, 4, 8),
        mlp_ratios=(8, 8, 4, 4),
        reductions=(8, 4, 2, 1),
        drop_path=0.1,
    )
    return types.MappingProxyType({**published, **sizes})


# The published sizes (paper, Table 1: ClusTR-T, -S and -B), and `clustr_nano`,
# ours, for small pictures and quick tries.
VARIANTS = types.MappingProxyType(
    dict(
        clustr_nano=_variant(
            num_classes=10,
            dims=(32, 48, 64, 96),
            depths=(1, 1, 2, 1),
            heads=(1, 2, 2, 3),
            mlp_ratios=(4, 4, 4, 4),
            patch=(3, 2),
        ),
        clustr_b1=_variant(dims=(64, 128, 256, 512), depths=(1, 2, 6, 1)),
        clustr_b2=_variant(dims=(64, 128, 256, 512), depths=(3, 5, 13, 2)),
        clustr_b3=_variant(
            dims=(64, 128, 320, 512), depths=(3, 5, 18, 3), heads=(1, 2, 5, 8), drop_path=0.3
        ),
    )
)
