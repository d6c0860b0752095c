"""Layers that several families use, and how their weights are initialized."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cluenet_jax import ops

# Rows of a tile of a TPU. Where they divide a grid's width, its pixels in one axis and in two are
# the same in memory; elsewhere a wide array is copied to change between the two.
_TPU_ROWS = 8
# "Truncated normal, sigma 0.02, cut at +-2": a hundred sigma away, so a normal.
linear_init = nn.initializers.normal(0.02)
# Normal, sigma = sqrt(2 / fan_out), fan_out = k * k * out / groups.
conv_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def depthwise_init(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """As `conv_init` for one channel per group: fan_out is 9 for a 3x3 kernel."""
    return jnp.sqrt(2.0 / (shape[0] * shape[1])) * jax.random.normal(key, shape, dtype)


def uniform_init(fan_in: int):
    """Uniform within 1 / sqrt(fan_in), weights and biases: PyTorch's default."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
        bound = fan_in**-0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def linear(features: int, name: str, dtype: jnp.dtype) -> nn.Dense:
    """A linear map with the families' initial weights."""
    return nn.Dense(features, kernel_init=linear_init, dtype=dtype, name=name)


def conv1x1(features: int, name: str, dtype: jnp.dtype) -> nn.Dense:
    """A 1x1 convolution: a linear map whose initial weights follow the convolutions' rule."""
    return nn.Dense(features, kernel_init=conv_init, dtype=dtype, name=name)


def conv(
    features: int, size: int, stride: int, padding: int, name: str, dtype: jnp.dtype
) -> nn.Conv:
    """A square convolution, zero padded by `padding` pixels on each side."""
    return nn.Conv(
        features,
        (size, size),
        strides=stride,
        padding=padding,
        kernel_init=conv_init,
        dtype=dtype,
        name=name,
    )


def uniform_conv1x1(features: int, fan_in: int, name: str, dtype: jnp.dtype) -> nn.Dense:
    """A 1x1 convolution of `fan_in` channels with PyTorch's own initial weights."""
    init = uniform_init(fan_in)
    return nn.Dense(features, kernel_init=init, bias_init=init, dtype=dtype, name=name)


class FrozenConv1x1(nn.Module):
    """As `uniform_conv1x1`, but it never trains and takes no optimizer state.

    Its weights are in the collection `frozen` instead of `params`.
    """

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = uniform_init(x.shape[-1])

        def drawn(name: str, *shape: int) -> jax.Array:
            draw = self.variable("frozen", name, lambda: init(self.make_rng("params"), shape))
            return draw.value.astype(self.dtype)

        kernel, bias = drawn("kernel", x.shape[-1], self.features), drawn("bias", self.features)
        return x.astype(self.dtype) @ kernel + bias


def uniform_conv(
    features: int, channels: int, window: tuple[int, int, int], name: str, dtype: jnp.dtype
) -> nn.Conv:
    """A square convolution of `channels` with PyTorch's own initial weights.

    `window` is its size, its stride and the zero padding of each side.
    """
    size, stride, padding = window
    init = uniform_init(size * size * channels)
    return nn.Conv(
        features,
        (size, size),
        strides=stride,
        padding=padding,
        kernel_init=init,
        bias_init=init,
        dtype=dtype,
        name=name,
    )


def layer_norm(name: str, dtype: jnp.dtype, epsilon: float) -> nn.LayerNorm:
    """A LayerNorm over channels, its variance in a second pass."""
    return nn.LayerNorm(epsilon=epsilon, dtype=dtype, use_fast_variance=False, name=name)


def group_norm(name: str, dtype: jnp.dtype, epsilon: float) -> nn.GroupNorm:
    """A norm over all pixels and channels of an image, scale and bias per channel."""
    return nn.GroupNorm(
        num_groups=1, epsilon=epsilon, dtype=dtype, use_fast_variance=False, name=name
    )


class DepthwiseConv(nn.Module):
    """Depthwise 3x3 convolution with a bias, zero padded, `[B, H, W, C]` to the same."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        kernel = self.param("kernel", depthwise_init, (3, 3, channels))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        y = ops.depthwise_conv3x3(x.astype(self.dtype), kernel.astype(self.dtype))
        return y + bias.astype(self.dtype)


class ConvMLP(nn.Module):
    """Linear map, depthwise 3x3 convolution, GELU, linear map; `[B, N, C]` to the same.

    Attributes:
      hidden: Width between the linear maps.
      residual: Whether the convolution's input is added to its output (ClusTR).
    """

    hidden: int
    residual: bool
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, grid: tuple[int, int]) -> jax.Array:
        """`x` is `[B, N, C]`, the pixels of `grid` in row-major order."""
        batch, points, channels = x.shape
        if grid[1] % _TPU_ROWS:
            x = x.reshape(batch, *grid, channels)
        hidden = linear(self.hidden, "expand", self.dtype)(x)
        image = hidden.reshape(batch, *grid, self.hidden)
        y = DepthwiseConv(self.dtype, name="depthwise")(image)
        y = ops.gelu((image + y if self.residual else y).reshape(hidden.shape))
        return linear(channels, "project", self.dtype)(y).reshape(batch, points, channels)


def drop_path(rate: float, train: bool) -> nn.Dropout:
    """Stochastic depth: drops a branch `[B, N, C]` for whole images in training.

    Kept branches are divided by the keep rate. Needs the random stream `dropout`.
    """
    return nn.Dropout(rate, broadcast_dims=(1, 2), deterministic=not train)


def drop_path_rates(rate: float, depths: tuple[int, ...]) -> list[list[float]]:
    """Drop rates of every block, growing linearly over the whole backbone from 0 to `rate`."""
    rates = np.linspace(0.0, rate, sum(depths)).tolist()
    starts = np.cumsum((0, *depths)).tolist()
    return [rates[start : start + depth] for start, depth in zip(starts, depths, strict=False)]


# What the backward pass reads of a block, and what it computes again: "none", nothing
# again; "dots", all but matrix products; "blocks", everything but the block's input.
REMAT = {
    "none": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "blocks": jax.checkpoint_policies.nothing_saveable,
}


def rematerialized(block: type[nn.Module], remat: str, train_argument: int) -> type[nn.Module]:
    """A block that saves memory in training as `remat` of `REMAT` says.

    Args:
      block: The module.
      remat: A key of `REMAT`.
      train_argument: The position of `train` among the arguments of its `__call__`, from 0.
    """
    if remat == "none":
        return block
    return nn.remat(block, policy=REMAT[remat], static_argnums=(train_argument + 1,))


class FourStages(nn.Module):
    """What backbones of four stages, `dims` wide, have in common; each halves both sides.

    `patch[1]` is the stride of the first patch convolution.
    """

    @property
    def channels(self) -> tuple[int, ...]:
        """Width of each level."""
        return self.dims

    @property
    def strides(self) -> tuple[int, ...]:
        """Image pixels per pixel of each level, along an axis."""
        return tuple(self.patch[1] * 2**stage for stage in range(4))


def check_backbone(
    drop_path: float, remat: str, patch: tuple[int, ...], **sizes: tuple[int, ...]
) -> None:
    """Raises a ValueError for what no backbone can have; `sizes` are the numbers of each stage."""
    if remat not in REMAT:
        raise ValueError(f"remat={remat!r} is not one of {', '.join(REMAT)}.")
    if not 0 <= drop_path < 1:
        raise ValueError(f"drop_path={drop_path} must be at least 0 and below 1.")
    if min(patch[:2]) < 1:
        raise ValueError(f"patch={tuple(patch)}: size and stride must be at least 1.")
    for name, values in sizes.items():
        if len(values) != 4 or min(values) < 1:
            raise ValueError(f"{name}={tuple(values)} must be four numbers of at least 1.")


def with_coordinates(images: jax.Array) -> jax.Array:
    """Appends `row/(H-1) - 0.5` and `column/(W-1) - 0.5`: `[B, H, W, 3]` to `[B, H, W, 5]`."""
    batch, height, width, _ = images.shape
    rows = jnp.arange(height, dtype=jnp.float32) / max(height - 1, 1) - 0.5
    columns = jnp.arange(width, dtype=jnp.float32) / max(width - 1, 1) - 0.5
    plane = jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), axis=-1)
    plane = jnp.broadcast_to(plane.astype(images.dtype), (batch, height, width, 2))
    return jnp.concatenate([images, plane], axis=-1)
