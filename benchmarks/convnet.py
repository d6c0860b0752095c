"""A plain convolutional backbone of the size of the nano models, as a family beside ours.

Residual blocks of 3x3 convolutions (pre-activation, K. He et al., arXiv 1603.05027, with LayerNorm
and GELU as in the other families) in place of their blocks.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax import ops
from cluenet_jax.models.backbones.family import Family, Variant
from cluenet_jax.models.features import (
    Features,
    StageMaps,
    check_images,
    for_each_image,
    window_owners,
)
from cluenet_jax.models.layers import (
    FourStages,
    check_backbone,
    conv,
    drop_path,
    drop_path_rates,
    layer_norm,
    rematerialized,
)

_EPSILON = 1e-6


class Block(nn.Module):
    """A residual block of two 3x3 convolutions."""

    drop_path: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """`[B, H, W, C]` to the same."""
        width, y = x.shape[-1], x
        for i in (1, 2):
            y = ops.gelu(layer_norm(f"norm{i}", self.dtype, _EPSILON)(y))
            y = conv(width, 3, 1, 1, f"conv{i}", self.dtype)(y)
        # Its dropout is of whole images of pixels in one axis.
        pixels = y.reshape(y.shape[0], -1, width)
        return x + drop_path(self.drop_path, train)(pixels).reshape(x.shape)


class ConvNet(FourStages):
    """The backbone; in its maps each pixel is a cluster of its own, and joins the window it is in.

    Attributes:
      dims, depths: Channels and blocks of the four stages.
      patch: Size, stride and padding of the first convolution; those between stages have 2, 2, 0.
      drop_path: Drop rate of the last block; rates grow linearly from 0.
      level_norms: Whether each level is given out through a LayerNorm of its own.
      remat: A key of `layers.REMAT`.
      dtype: Type of the convolutions.
    """

    dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    patch: tuple[int, int, int]
    drop_path: float = 0.0
    level_norms: bool = False
    remat: str = "none"
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        super().__post_init__()
        check_backbone(self.drop_path, self.remat, self.patch, dims=self.dims, depths=self.depths)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> Features:
        """`images` is `[B, H, W, 3]`, normalized; returns the levels `[B, H_s, W_s, dims[s]]`."""
        check_images(images)
        block_class = rematerialized(Block, self.remat, train_argument=1)
        rates = drop_path_rates(self.drop_path, self.depths)
        x, levels, owners = images.astype(self.dtype), [], []
        for stage in range(4):
            window = self.patch if stage == 0 else (2, 2, 0)
            before = x.shape[1:3]
            x = conv(self.dims[stage], *window, f"down{stage + 1}", self.dtype)(x)
            owners.append(for_each_image(window_owners(before, x.shape[1:3], *window), x.shape[0]))
            for i, rate in enumerate(rates[stage]):
                x = block_class(rate, self.dtype, name=f"stage{stage + 1}_block{i}")(x, train)
            norm = layer_norm(f"stage{stage + 1}_norm", self.dtype, _EPSILON)
            levels.append(norm(x) if self.level_norms else x)
        maps = [
            StageMaps(_own_clusters(level), parents=parents)
            for level, parents in zip(levels, [*owners[1:], None], strict=True)
        ]
        return Features(tuple(levels), tuple(maps), owners[0])


def _own_clusters(level: jax.Array) -> jax.Array:
    """int32 `[B, 1, H, W]` of a level `[B, H, W, C]`: each pixel's own row-major number."""
    batch, height, width, _ = level.shape
    numbers = jnp.arange(height * width, dtype=jnp.int32).reshape(1, 1, height, width)
    return jnp.broadcast_to(numbers, (batch, 1, height, width))


FAMILY = Family(
    ConvNet,
    {
        "convolutional_nano": Variant(
            dict(dims=(32, 48, 64, 88), depths=(1, 1, 2, 1), patch=(2, 2, 0), drop_path=0.1), 10
        )
    },
    # No published weights.
    torch_names=lambda backbone: iter(()),
    pyramid={"level_norms": True},
)
