"""Layers that both model families use, and how first weights are drawn."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cluenet_jax.ops import depthwise_conv3x3

# "Truncated normal, sigma 0.02, cut at +-2": a hundred sigma away, so a normal.
linear_init = nn.initializers.normal(0.02)
# Normal, sigma = sqrt(2 / fan_out), fan_out = k * k * out / groups.
conv_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def depthwise_init(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """As `conv_init` for one channel per group: fan_out is 9 for a 3x3 kernel."""
    return jnp.sqrt(2.0 / (shape[0] * shape[1])) * jax.random.normal(key, shape, dtype)


def linear(features: int, name: str, dtype: jnp.dtype) -> nn.Dense:
    """A linear map with the families' first weights."""
    return nn.Dense(features, kernel_init=linear_init, dtype=dtype, name=name)


def layer_norm(name: str, dtype: jnp.dtype, epsilon: float) -> nn.LayerNorm:
    """A LayerNorm over channels, its variance in a second pass."""
    return nn.LayerNorm(epsilon=epsilon, dtype=dtype, use_fast_variance=False, name=name)


# What the backward pass finds of a block, and what it computes again: "none", nothing
# again; "dots", all but matrix products; "blocks", everything but the block's input.
REMAT = {
    "none": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "blocks": jax.checkpoint_policies.nothing_saveable,
}


def rematerialized(block: type[nn.Module], remat: str, train_argument: int) -> type[nn.Module]:
    """A block that saves memory in training as `remat` of `REMAT` says.

    Args:
      train_argument: The place of `train` among the arguments of its `__call__`, from 0.
    """
    if remat == "none":
        return block
    return nn.remat(block, policy=REMAT[remat], static_argnums=(train_argument + 1,))


def check_network(num_classes: int, drop_path: float, backbone: bool, remat: str) -> None:
    """Raises a ValueError for what no network can have."""
    if remat not in REMAT:
        raise ValueError(f"remat={remat!r} is not one of {', '.join(REMAT)}.")
    if not 0 <= drop_path < 1:
        raise ValueError(f"drop_path={drop_path} must be at least 0 and below 1.")
    if not backbone and num_classes < 1:
        raise ValueError(f"num_classes={num_classes} must be at least 1.")


def drop_path_rates(rate: float, depths: tuple[int, ...]) -> list[list[float]]:
    """Drop rates of every block, growing linearly over the whole network from 0 to `rate`."""
    rates = np.linspace(0.0, rate, sum(depths)).tolist()
    starts = np.cumsum((0, *depths)).tolist()
    return [rates[start : start + depth] for start, depth in zip(starts, depths, strict=False)]


class DropPath(nn.Module):
    """Stochastic depth: drops a residual branch for whole images.

    Kept branches are divided by the keep rate. Needs the random stream
    `dropout` when training at a rate above 0.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """`x` is `[B, ...]`."""
        if not train or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        kept = jax.random.bernoulli(self.make_rng("dropout"), keep, shape)
        return jnp.where(kept, x / keep, jnp.zeros_like(x))


class DepthwiseConv(nn.Module):
    """Depthwise 3x3 convolution with a bias, zero padded, `[B, H, W, C]` to the same."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        kernel = self.param("kernel", depthwise_init, (3, 3, channels))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        y = depthwise_conv3x3(x.astype(self.dtype), kernel.astype(self.dtype))
        return y + bias.astype(self.dtype)
