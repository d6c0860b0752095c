"""The classification head: mean over the pixels of a level or of all, then a linear map."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax.models.features import check_levels
from cluenet_jax.models.layers import group_norm, layer_norm, linear_init
from cluenet_jax.models.torch_names import LINEAR, Entry, layer, norm


class LinearHead(nn.Module):
    """Logits of the last level, or of all.

    Attributes:
      in_channels: Width of each level.
      num_classes: Width of the logits.
      norm_epsilon: Of a norm of the last level before the mean; None for no norm, where the
        backbone's levels have passed one.
      group_norm: Whether that norm is over all pixels and channels of an image, or a LayerNorm.
      all_levels: Whether the means of all levels are joined before the linear map.
      dtype: Type of the norm; mean and logits are float32.
    """

    in_channels: tuple[int, ...]
    num_classes: int
    norm_epsilon: float | None = None
    group_norm: bool = False
    all_levels: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, levels: tuple[jax.Array, ...], train: bool = False) -> jax.Array:
        """`levels` are `[B, H_s, W_s, C_s]`; returns `[B, num_classes]` float32."""
        check_levels(levels, self.in_channels)
        if self.norm_epsilon is not None:
            norm = group_norm if self.group_norm else layer_norm
            levels = (*levels[:-1], norm("norm", self.dtype, self.norm_epsilon)(levels[-1]))
        read = levels if self.all_levels else levels[-1:]
        x = jnp.concatenate([x.mean(axis=(1, 2), dtype=jnp.float32) for x in read], axis=-1)
        # As mmpretrain draws its head, or as the families draw all linear maps.
        init = nn.initializers.normal(0.01) if self.all_levels else linear_init
        return nn.Dense(self.num_classes, kernel_init=init, name="linear")(x)


def torch_names(head: LinearHead) -> Iterator[Entry]:
    """The names of timm's classifiers, as in the references; of all levels, mmpretrain's."""
    if head.norm_epsilon is not None:
        yield from norm("norm", "norm")
    yield from layer("head.fc" if head.all_levels else "head", "linear", LINEAR)


def torch_prefix(head: LinearHead) -> str:
    """What mmpretrain puts before a backbone's names, timm nothing."""
    return "backbone." if head.all_levels else ""
