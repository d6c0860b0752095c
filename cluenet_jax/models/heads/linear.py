"""The classification head: mean over the pixels of the last level, then a linear map."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax.models.features import check_levels
from cluenet_jax.models.layers import layer_norm, linear
from cluenet_jax.models.torch_names import LINEAR, Entry, layer, norm


class LinearHead(nn.Module):
    """Logits of the last level.

    Attributes:
      in_channels: Width of each level.
      num_classes: Width of the logits.
      norm_epsilon: Of a LayerNorm before the mean; None for no norm, where the backbone's
        last level has passed one.
      dtype: Type of the norm; mean and logits are float32.
    """

    in_channels: tuple[int, ...]
    num_classes: int
    norm_epsilon: float | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, levels: tuple[jax.Array, ...], train: bool = False) -> jax.Array:
        """`levels` are `[B, H_s, W_s, C_s]`; returns `[B, num_classes]` float32."""
        check_levels(levels, self.in_channels)
        x = levels[-1]
        if self.norm_epsilon is not None:
            x = layer_norm("norm", self.dtype, self.norm_epsilon)(x)
        x = x.mean(axis=(1, 2), dtype=jnp.float32)
        return linear(self.num_classes, "linear", jnp.float32)(x)


def torch_names(head: LinearHead) -> Iterator[Entry]:
    """The names of timm's classifiers, as in both references."""
    if head.norm_epsilon is not None:
        yield from norm("norm", "norm")
    yield from layer("head", "linear", LINEAR)
