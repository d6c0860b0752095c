"""CLUENet: cluster attention makes neural networks have eyes (AAAI 2026, arXiv 2512.06345).

Four stages of blocks with a cluster pooling (ICP) between them. A block groups
the pixels by cluster attention (GFC):

    K = W_k x, V = W_v x                          split into heads
    K0, V0 = adaptive average pools of K and V    M = grid^2 centres per head
    A = softmax over pixels of cos(K0, K) / t     GSFA, t = exp(max(alpha, log t_min))
    C = A V
    g = sigmoid(w2 . GELU(W1 [C ; V0] + b1) + b2) gated fusion, weights per head
    C = (1 - g) C + g V0
    Q = W_q (all heads of C side by side)         HSFD, in the first block of a stage
    s = sigmoid(b + a cos(Q, K))
    index, weight = argmax, max of s over the centres
    out = W_o (weight * C[index])                 heads side by side

Later blocks of a stage reuse the first block's index and weight.
"""

import types

import jax
import jax.numpy as jnp
import numpy as np
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

POOLINGS = ("icp", "fec", "shared")
DISPATCHES = ("hard", "soft")


def _layer_norm(name: str, dtype: jnp.dtype) -> nn.LayerNorm:
    return layer_norm(name, dtype, 1e-5)


def _conv1x1(features: int, name: str, dtype: jnp.dtype) -> nn.Dense:
    """A 1x1 convolution is a linear map whose first weights follow the convolutions' rule."""
    return nn.Dense(features, kernel_init=conv_init, dtype=dtype, name=name)


def _gate_init(fan_in: int):
    """Uniform He with a = sqrt(5): within 1 / sqrt(fan_in).

    `fan_in` counts a gate's whole weight of one head, inputs times outputs, as
    the published code's initialiser does on its three-axis tensor.
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
        bound = fan_in**-0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class GatedFusion(nn.Module):
    """Mixes each centre with the average of its neighbourhood, by a gate per head and centre."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, centres: jax.Array, local: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Fuses `centres` and `local`, both `[B, G, M, D]`.

        Returns:
          The fused centres `[B, G, M, D]` and the gate `[B, G, M]` in 0 .. 1,
          the share that each centre took from its neighbourhood.
        """
        heads, dim = centres.shape[1], centres.shape[3]
        hidden = dim // 2
        w1 = self.param("w1", _gate_init(hidden * 2 * dim), (heads, 2 * dim, hidden))
        b1 = self.param("b1", nn.initializers.zeros, (heads, hidden))
        w2 = self.param("w2", _gate_init(hidden), (heads, hidden))
        b2 = self.param("b2", nn.initializers.zeros, (heads,))
        w1, b1, w2, b2 = (p.astype(self.dtype) for p in (w1, b1, w2, b2))
        both = jnp.concatenate([centres, local], axis=-1)
        features = ops.gelu(jnp.einsum("bgmi,gio->bgmo", both, w1) + b1[:, None])
        gate = jax.nn.sigmoid(jnp.einsum("bgmo,go->bgm", features, w2) + b2[:, None])
        return centres + gate[..., None] * (local - centres), gate


class ClusterAttention(nn.Module):
    """Groups the pixels around centres and gives each pixel its centre's features.

    Attributes:
      heads, head_dim: Number and width of the heads.
      grid: Rows and columns of the first centres.
      gate: Whether centres are fused with their neighbourhood.
      learn_temperature: Whether alpha is a parameter or stays log 2.13.
      dispatch: "hard", each pixel takes from its best centre; "soft" (ablation),
        from all centres by their scores.
    """

    heads: int
    head_dim: int
    grid: tuple[int, int]
    min_temperature: float
    gate: bool = True
    learn_temperature: bool = True
    dispatch: str = "hard"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, assignment: tuple | None = None) -> tuple:
        """Attends over one image grid.

        Args:
          x: `[B, H, W, C]`.
          assignment: What an earlier block of the stage returned, to be reused;
            None computes it here.

        Returns:
          `[B, H, W, C]`; the assignment, `(index, weight)` of `[B, G, N]` each
          (hard) or `(scores,)` of `[B, G, M, N]` (soft); the gate `[B, G, M]`, or None.
        """
        batch, height, width, channels = x.shape
        inner = self.heads * self.head_dim
        key = _conv1x1(inner, "key", self.dtype)(x)
        value = _conv1x1(inner, "value", self.dtype)(x)
        key_centres, value_centres = (
            self._split(ops.adaptive_avg_pool(m, self.grid)) for m in (key, value)
        )
        key, value = self._split(key), self._split(value)

        with jax.named_scope("aggregation"):
            similarity = ops.cosine_similarity(key_centres, key)
            weights = ops.aggregation_weights(similarity, self._temperature())
            centres = ops.aggregate(weights, value)
        gate = None
        if self.gate:
            centres, gate = GatedFusion(self.dtype, name="gate")(centres, value_centres)

        if assignment is None:
            scores = self._scores(centres, key)
            assignment = ops.hard_assign(scores) if self.dispatch == "hard" else (scores,)
        if self.dispatch == "hard":
            out = ops.dispatch(*assignment, centres)
        else:
            out = ops.soft_dispatch(*assignment, centres)
        out = out.transpose(0, 2, 1, 3).reshape(batch, height, width, inner)
        return _conv1x1(channels, "out", self.dtype)(out), assignment, gate

    def _split(self, x: jax.Array) -> jax.Array:
        """`[B, h, w, G*D]` to `[B, G, h*w, D]`."""
        split = x.reshape(x.shape[0], -1, self.heads, self.head_dim)
        return split.transpose(0, 2, 1, 3)

    def _temperature(self) -> jax.Array:
        start = nn.initializers.constant(np.log(2.13))
        alpha = self.param("alpha", start, ()) if self.learn_temperature else np.log(2.13)
        return jnp.exp(jnp.maximum(alpha, np.log(self.min_temperature)))

    def _scores(self, centres: jax.Array, key: jax.Array) -> jax.Array:
        """`[B, G, M, N]` float32 in 0 .. 1, how well each pixel fits each centre."""
        batch, heads, num_centres, dim = centres.shape
        scale = self.param("scale", nn.initializers.ones, ())
        shift = self.param("shift", nn.initializers.zeros, ())
        side_by_side = centres.transpose(0, 2, 1, 3).reshape(batch, num_centres, heads * dim)
        query = self._split(linear(heads * dim, "query", self.dtype)(side_by_side))
        return jax.nn.sigmoid(shift + scale * ops.cosine_similarity(query, key))


class ConvMLP(nn.Module):
    """Linear, depthwise 3x3 convolution, GELU, linear; `[B, H, W, C]` to the same."""

    hidden: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = linear(self.hidden, "expand", self.dtype)(x)
        y = ops.gelu(DepthwiseConv(self.dtype, name="depthwise")(y))
        return linear(x.shape[-1], "project", self.dtype)(y)


class Block(nn.Module):
    """Cluster attention, then the MLP, each normalised before and added to its input."""

    attention: ClusterAttention
    mlp_ratio: int
    drop_path: float
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, assignment: tuple | None, train: bool) -> tuple:
        """`x` is `[B, H, W, C]`; returns what `ClusterAttention` does."""
        drop = DropPath(self.drop_path)
        normed = _layer_norm("norm1", self.dtype)(x)
        y, assignment, gate = self.attention(normed, assignment)
        x = x + drop(y, train)
        mlp = ConvMLP(x.shape[-1] * self.mlp_ratio, self.dtype, name="mlp")
        x = x + drop(mlp(_layer_norm("norm2", self.dtype)(x)), train)
        return x, assignment, gate


class ClusterPooling(nn.Module):
    """Halves the grid by clustering the pixels (ICP), beside a strided convolution.

    Every pixel joins the coarse cell whose average it is most similar to, among
    all cells. `config` is one of the paper's Figure 4:

      "icp": one map guides the assignment and is averaged; an MLP follows the mean.
      "fec": the map that guides is separate from the one averaged, so it never trains.
      "shared": a single projection to the new width guides and is averaged.
    """

    features: int
    config: str = "icp"
    norm_after: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`x` is `[B, H, W, C]`.

        Returns:
          `[B, ceil(H/2), ceil(W/2), features]` and the assignment `[B, H, W]`
          int32, the row-major index of the coarse cell that each pixel joined.
        """
        batch, height, width, channels = x.shape
        grid = (-(-height // 2), -(-width // 2))
        averaged = _conv1x1(
            channels if self.config == "icp" else self.features, "value", self.dtype
        )(x)
        guide = averaged
        if self.config == "fec":
            guide = _conv1x1(channels, "guide", self.dtype)(x)

        def rows(a: jax.Array) -> jax.Array:
            return a.reshape(batch, -1, a.shape[-1])

        guide_centres = ops.adaptive_avg_pool(guide, grid)
        centres = guide_centres if guide is averaged else ops.adaptive_avg_pool(averaged, grid)
        index = ops.nearest_centre(rows(guide_centres), rows(guide))
        y = ops.cluster_mean(rows(averaged), rows(centres), index)
        if self.config == "icp":
            y = _layer_norm("norm", self.dtype)(y)
            y = ops.gelu(_conv1x1(channels, "expand", self.dtype)(y))
            y = _conv1x1(self.features, "project", self.dtype)(y)
        if self.norm_after:
            y = _layer_norm("norm_after", self.dtype)(y)
        skip = nn.Conv(
            self.features,
            (3, 3),
            strides=2,
            padding=1,
            kernel_init=conv_init,
            dtype=self.dtype,
            name="skip",
        )(x)
        return skip + y.reshape(skip.shape), index.reshape(batch, height, width)


def _with_coordinates(images: jax.Array) -> jax.Array:
    """Appends `row/(H-1) - 0.5` and `col/(W-1) - 0.5`: `[B, H, W, 3]` to `[B, H, W, 5]`."""
    batch, height, width, _ = images.shape
    rows = jnp.arange(height, dtype=jnp.float32) / max(height - 1, 1) - 0.5
    columns = jnp.arange(width, dtype=jnp.float32) / max(width - 1, 1) - 0.5
    plane = jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), axis=-1)
    plane = jnp.broadcast_to(plane.astype(images.dtype), (batch, height, width, 2))
    return jnp.concatenate([images, plane], axis=-1)


class Embedding(nn.Module):
    """Coordinates, patch convolution, LayerNorm, positional convolution."""

    features: int
    patch: tuple[int, int, int]
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """`[B, H, W, 3]` to `[B, H', W', features]`."""
        size, stride, padding = self.patch
        x = nn.Conv(
            self.features,
            (size, size),
            strides=stride,
            padding=padding,
            kernel_init=conv_init,
            dtype=self.dtype,
            name="conv",
        )(_with_coordinates(images))
        x = _layer_norm("norm", self.dtype)(x)
        return x + DepthwiseConv(self.dtype, name="position")(x)


class CLUENet(nn.Module):
    """The network; `VARIANTS` holds the published sizes.

    Attributes:
      num_classes: Width of the logits.
      dims, depths, heads, mlp_ratios: Channels, blocks, heads and MLP expansion
        of the four stages.
      head_dim: Width D of a head, even.
      grid: Rows and columns of the attention's centres.
      patch: Size, stride and padding of the patch convolution.
      drop_path: Drop rate of the last block; rates grow linearly from 0.
      min_temperature: Lower bound of the aggregation's temperature.
      norm_after_pooling: Whether a LayerNorm follows the pooling's MLP.
      pooling: "icp" (published), "fec" or "shared" (ablations of Figure 4).
      gate: Gated fusion on or off.
      share_assignment: Whether later blocks of a stage reuse the first's assignment.
      learn_temperature: Whether the temperature is learned or stays 2.13.
      dispatch: "hard" (published) or "soft".
      backbone: Return the four stage outputs, each with a LayerNorm of its own,
        instead of logits.
      remat: What training computes again to save memory, see `layers.REMAT`.
      dtype: Type of the matrix products; parameters, norms, similarities,
        softmax and argmax stay float32.
    """

    num_classes: int
    dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]
    head_dim: int
    grid: tuple[int, int]
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
    backbone: bool = False
    remat: str = "none"
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        super().__post_init__()
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling={self.pooling!r} is not one of {', '.join(POOLINGS)}.")
        if self.dispatch not in DISPATCHES:
            raise ValueError(f"dispatch={self.dispatch!r} is not one of {', '.join(DISPATCHES)}.")
        if self.head_dim % 2:
            raise ValueError(f"head_dim={self.head_dim} must be even: the gate halves it.")
        check_network(self.num_classes, self.drop_path, self.backbone, self.remat)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False, return_maps: bool = False):
        """Runs the network.

        Args:
          images: `[B, H, W, 3]` normalised RGB; H and W at least the patch size.
          train: Drops branches; needs the random stream `dropout`.
          return_maps: Also return what the network looked at.

        Returns:
          Logits `[B, num_classes]` float32, or as a backbone the four stage
          outputs `[B, H_s, W_s, dims[s]]`. With `return_maps` a pair of that
          and a dict of arrays, for stage s = 1 .. 4:
            `stage{s}/features` `[B, H_s, W_s, dims[s-1]]`, before any norm;
            `stage{s}/gate` `[B, depth, G, rows, columns]` in 0 .. 1;
            `stage{s}/assignment` int32 and `stage{s}/weight`,
              `[B, G, H_s, W_s]`, of the stage's first block (hard dispatch; with
              soft dispatch the best of all scores);
            `pool{s}/assignment` `[B, H_s, W_s]` int32 for s = 1 .. 3;
            `pre_logits` `[B, dims[3]]` (not as a backbone).
        """
        self._check(images)
        maps: dict[str, jax.Array] = {}
        outputs = []
        rates = drop_path_rates(self.drop_path, self.depths)
        block_class = rematerialized(Block, self.remat, train_argument=2)
        x = Embedding(self.dims[0], self.patch, self.dtype, name="embed")(images.astype(self.dtype))
        for stage, (depth, heads, ratio) in enumerate(
            zip(self.depths, self.heads, self.mlp_ratios, strict=True)
        ):
            name = f"stage{stage + 1}"
            first, assignment, gates = None, None, []
            for block in range(depth):
                attention = ClusterAttention(
                    heads,
                    self.head_dim,
                    self.grid,
                    self.min_temperature,
                    self.gate,
                    self.learn_temperature,
                    self.dispatch,
                    self.dtype,
                    parent=None,
                    name="attention",
                )
                x, assignment, gate = block_class(
                    attention, ratio, rates[stage][block], self.dtype, name=f"{name}_block{block}"
                )(x, first if self.share_assignment else None, train)
                first = first or assignment
                gates.append(gate)
            maps |= self._stage_maps(name, x, first, gates)
            if self.backbone:
                outputs.append(_layer_norm(f"{name}_norm", self.dtype)(x))
            if stage < 3:
                x, index = ClusterPooling(
                    self.dims[stage + 1],
                    self.pooling,
                    self.norm_after_pooling,
                    self.dtype,
                    name=f"pool{stage + 1}",
                )(x)
                maps[f"pool{stage + 1}/assignment"] = index
        if self.backbone:
            result = tuple(outputs)
        else:
            x = _layer_norm("norm", self.dtype)(x)
            maps["pre_logits"] = x = x.mean(axis=(1, 2), dtype=jnp.float32)
            result = linear(self.num_classes, "head", jnp.float32)(x)
        return (result, maps) if return_maps else result

    def _check(self, images: jax.Array) -> None:
        size, _, padding = self.patch
        least = max(size - 2 * padding, 1)
        if images.ndim != 4 or images.shape[-1] != 3 or min(images.shape[1:3]) < least:
            raise ValueError(
                f"images have shape {images.shape}; expected [batch, height, width, 3] "
                f"with height and width at least {least}."
            )

    def _stage_maps(self, name: str, x: jax.Array, assignment: tuple, gates: list) -> dict:
        batch, height, width, _ = x.shape
        index, weight = assignment if len(assignment) == 2 else ops.hard_assign(*assignment)
        maps = {
            f"{name}/features": x,
            f"{name}/assignment": index.reshape(batch, -1, height, width),
            f"{name}/weight": weight.reshape(batch, -1, height, width),
        }
        if self.gate:
            gate = jnp.stack(gates, axis=1)
            maps[f"{name}/gate"] = gate.reshape(*gate.shape[:3], *self.grid)
        return maps


def _variant(**sizes) -> types.MappingProxyType:
    published = dict(
        num_classes=100,
        mlp_ratios=(8, 8, 4, 4),
        grid=(7, 7),
        patch=(4, 4, 0),
        drop_path=0.1,
        min_temperature=1e-4,
    )
    return types.MappingProxyType({**published, **sizes})


_SMALL_DIMS = (64, 128, 320, 512)

# The published sizes (paper, Tables 1 and 2; tensor shapes of the checkpoints),
# and `cluenet_nano`, ours, for small pictures and quick tries.
VARIANTS = types.MappingProxyType(
    dict(
        cluenet_nano=_variant(
            num_classes=10,
            dims=(32, 48, 64, 96),
            depths=(1, 1, 2, 1),
            heads=(2, 2, 4, 4),
            head_dim=16,
            grid=(4, 4),
            mlp_ratios=(4, 4, 4, 4),
            patch=(2, 2, 0),
            norm_after_pooling=True,
        ),
        cluenet_mini_cifar=_variant(
            dims=(32, 64, 160, 256),
            depths=(2, 2, 2, 2),
            heads=(1, 2, 5, 8),
            head_dim=32,
            grid=(4, 4),
            patch=(3, 1, 1),
            norm_after_pooling=True,
        ),
        cluenet_micro=_variant(
            dims=(32, 64, 160, 256),
            depths=(2, 2, 2, 2),
            heads=(1, 2, 5, 8),
            head_dim=32,
            norm_after_pooling=True,
        ),
        cluenet_tiny=_variant(
            dims=(32, 64, 196, 320),
            depths=(3, 4, 5, 2),
            heads=(4, 4, 8, 8),
            head_dim=24,
            norm_after_pooling=False,
        ),
        cluenet_small=_variant(
            dims=_SMALL_DIMS,
            depths=(2, 2, 6, 2),
            heads=(4, 4, 8, 8),
            head_dim=32,
            drop_path=0.3,
            norm_after_pooling=False,
        ),
        cluenet_base=_variant(
            dims=_SMALL_DIMS,
            depths=(4, 4, 12, 4),
            heads=(6, 6, 12, 12),
            head_dim=32,
            drop_path=0.3,
            norm_after_pooling=False,
        ),
    )
)
