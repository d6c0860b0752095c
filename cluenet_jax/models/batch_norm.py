"""Batch normalization as PyTorch's."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

_EPSILON, _MOMENTUM = 1e-5, 0.1


class BatchNorm(nn.Module):
    """Normalizes each channel over batch and space, then scales and shifts it.

    `(x - mean) / sqrt(var + 1e-5) * scale + bias`, as `torch.nn.BatchNorm2d`: in training mean and
    variance are the batch's, else the running ones. The collection `batch_stats` keeps `mean`,
    `var` and `num_batches`; where it is mutable, training moves the first two by a tenth towards
    the batch's. Flax's `nn.BatchNorm` keeps the biased variance, PyTorch the unbiased one.

    Under jit the batch is that of all devices, and so are its statistics.

    Attributes:
      dtype: Type of the result; everything before is float32.
    """

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Normalizes `[..., C]`.

        Raises:
          ValueError: In training, a batch with one value per channel, which has no variance.
        """
        channels, count = x.shape[-1], math.prod(x.shape[:-1])
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,))
        num_batches = self.variable("batch_stats", "num_batches", jnp.zeros, (), jnp.int32)
        x = x.astype(jnp.float32)
        if not train:
            mean, var = running_mean.value, running_var.value
        else:
            if count < 2:
                raise ValueError(
                    f"A batch of shape {x.shape} has one value per channel, whose variance is not "
                    "known; train on at least two images."
                )
            axes = tuple(range(x.ndim - 1))
            mean = x.mean(axes)
            var = jnp.square(x - mean).mean(axes)
            if self.is_mutable_collection("batch_stats") and not self.is_initializing():
                unbiased = var * (count / (count - 1))
                running_mean.value += _MOMENTUM * (mean - running_mean.value)
                running_var.value += _MOMENTUM * (unbiased - running_var.value)
                num_batches.value += 1
        return ((x - mean) * (jax.lax.rsqrt(var + _EPSILON) * scale) + bias).astype(self.dtype)
