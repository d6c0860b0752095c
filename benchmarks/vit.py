"""A plain vision transformer (ViT, arXiv 2010.11929) as a family beside ours, for classifiers.

It has one level, of its tokens, so that only the head `linear` suits it.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax.models.backbones.family import Family, Variant
from cluenet_jax.models.features import Features, check_images, for_each_image, window_owners
from cluenet_jax.models.layers import drop_path, drop_path_rates, rematerialized


class Block(nn.Module):
    """Attention and an MLP, each normalized before and added to its input."""

    num_heads: int
    mlp_ratio: int
    drop_path: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """`x` is `[B, N, C]`."""
        channels = x.shape[-1]
        norm = functools.partial(nn.LayerNorm, dtype=self.dtype)
        dense = functools.partial(nn.Dense, dtype=self.dtype)
        drop = drop_path(self.drop_path, train)
        query, key, value = (
            self._split(part)
            for part in jnp.split(dense(3 * channels, name="qkv")(norm(name="norm1")(x)), 3, -1)
        )
        logits = jnp.einsum("bngd,bmgd->bgnm", query, key, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(logits * query.shape[-1] ** -0.5).astype(self.dtype)
        out = jnp.einsum("bgnm,bmgd->bngd", weights, value).reshape(x.shape)
        x = x + drop(dense(channels, name="out")(out))
        hidden = dense(self.mlp_ratio * channels, name="expand")(norm(name="norm2")(x))
        return x + drop(dense(channels, name="project")(nn.gelu(hidden, approximate=False)))

    def _split(self, x: jax.Array) -> jax.Array:
        """`[B, N, G*D]` to `[B, N, G, D]`."""
        return x.reshape(*x.shape[:2], self.num_heads, -1)


class VisionTransformer(nn.Module):
    """The backbone, by default of ViT-Ti/16; it has no maps.

    Attributes:
      patch: Side of a token, pixels.
      dim, depth, num_heads, mlp_ratio: Width, blocks, heads and MLP expansion.
      drop_path: Drop rate of the last block; rates grow linearly from 0.
      remat: A key of `layers.REMAT`.
      dtype: Type of the matrix products.
    """

    patch: int = 16
    dim: int = 192
    depth: int = 12
    num_heads: int = 3
    mlp_ratio: int = 4
    drop_path: float = 0.0
    remat: str = "none"
    dtype: jnp.dtype = jnp.float32

    @property
    def channels(self) -> tuple[int]:
        """Width of the level."""
        return (self.dim,)

    @property
    def strides(self) -> tuple[int]:
        """Image pixels per token, along an axis."""
        return (self.patch,)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> Features:
        """`images` is `[B, H, W, 3]`, normalized; returns a level `[B, H/patch, W/patch, dim]`.

        A table of positions is learned for this size of images, and serves no other.
        """
        check_images(images, self.patch)
        size = (self.patch, self.patch)
        x = nn.Conv(self.dim, size, size, padding="VALID", dtype=self.dtype, name="embed")(images)
        grid = x.shape[1:3]
        owners = window_owners(images.shape[1:3], grid, self.patch, self.patch, 0)
        x = x.reshape(x.shape[0], -1, self.dim)
        position = self.param("position", nn.initializers.normal(0.02), x.shape[1:])
        x = x + position.astype(self.dtype)
        block_class = rematerialized(Block, self.remat, train_argument=1)
        (rates,) = drop_path_rates(self.drop_path, (self.depth,))
        for i, rate in enumerate(rates):
            block = block_class(self.num_heads, self.mlp_ratio, rate, self.dtype, name=f"block{i}")
            x = block(x, train)
        x = nn.LayerNorm(dtype=self.dtype, name="norm")(x)
        level = x.reshape(x.shape[0], *grid, self.dim)
        return Features((level,), (), for_each_image(owners, images.shape[0]))


FAMILY = Family(
    VisionTransformer,
    {
        # Of the size of the other nano models, for images of 32 pixels.
        "vit_nano": Variant(dict(patch=4, dim=72, depth=6, num_heads=3, drop_path=0.1), 10)
    },
    # No published weights.
    torch_names=lambda backbone: iter(()),
)
