"""Four stages of an image as a set of points: what Context Cluster, FEC and ClusterFormer share.

Coordinates are appended to the image and a patch convolution makes points of it, without a norm.
A block is a mixer, which clusters the points, then an MLP; each is normalized before over the
whole image, scaled per channel and added to its input.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax import ops
from cluenet_jax.models import torch_names as names
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
    drop_path,
    drop_path_rates,
    group_norm,
    linear,
    rematerialized,
    uniform_conv,
    with_coordinates,
)

EPSILON = 1e-5
# Of the head `linear`, for classifiers whose norm is like that of the blocks.
CLASSIFIER = {"norm_epsilon": EPSILON, "group_norm": True}
# Size, stride and padding of the convolution between stages.
REDUCER = (3, 2, 1)

Pair = tuple[int, int]


class Block(nn.Module):
    """A mixer, then an MLP, each normalized before, scaled per channel and added to its input.

    Attributes:
      mixer: From points `[B, N, C]` and their grid to `[B, N, C]`, clusters and weights.
      mlp_ratio: Expansion of the MLP.
      drop_path: Drop rate of each of the two branches.
      dtype: Type of the matrix products.
    """

    mixer: nn.Module
    mlp_ratio: int
    drop_path: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
        """`x` is `[B, H, W, C]`; also returns clusters and weights, `[B, G, H, W]`."""
        batch, height, width, channels = x.shape
        drop = drop_path(self.drop_path, train)
        # Pixels in one axis: TPUs would pad two of them.
        points = x.reshape(batch, -1, channels)
        normed = group_norm("norm1", self.dtype, EPSILON)(points)
        y, *maps = self.mixer(normed, (height, width))
        points = points + drop(self._scale("scale1", channels) * y)
        normed = group_norm("norm2", self.dtype, EPSILON)(points)
        hidden = ops.gelu(linear(channels * self.mlp_ratio, "expand", self.dtype)(normed))
        y = linear(channels, "project", self.dtype)(hidden)
        points = points + drop(self._scale("scale2", channels) * y)
        clusters, weights = (m.reshape(batch, -1, height, width) for m in maps)
        return points.reshape(x.shape), clusters, weights

    def _scale(self, name: str, channels: int) -> jax.Array:
        scale = self.param(name, nn.initializers.constant(1e-5), (channels,))
        return scale.astype(self.dtype)


class PointStages(FourStages):
    """The backbone; a family adds its mixer, its way from stage to stage and its sizes.

    Attributes:
      dims, depths, num_heads, mlp_ratios: Channels, blocks, heads and MLP expansion of the
        four stages.
      head_dim: Width D of a head.
      center_grids: Rows and columns of the centers, of each stage.
      folds: Rows and columns of the folds that are clustered on their own, of each stage; see
        `ops.fold_counts`.
      patch: Size, stride and padding of the patch convolution.
      drop_path: Drop rate of the last block; rates grow linearly from 0.
      level_norms: Whether each level is given out through a norm of its own, for heads that read
        all levels; a classifier's only norm is in its head.
      remat: What training computes again to save memory, a key of `layers.REMAT`.
      dtype: Type of the matrix products; parameters, norms, similarities and argmax stay
        float32.
    """

    dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    num_heads: tuple[int, int, int, int]
    head_dim: int
    center_grids: tuple[Pair, Pair, Pair, Pair]
    folds: tuple[Pair, Pair, Pair, Pair]
    mlp_ratios: tuple[int, int, int, int]
    patch: tuple[int, int, int]
    drop_path: float
    level_norms: bool = False
    remat: str = "none"
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        super().__post_init__()
        check_backbone(
            self.drop_path,
            self.remat,
            self.patch,
            dims=self.dims,
            depths=self.depths,
            num_heads=self.num_heads,
            mlp_ratios=self.mlp_ratios,
        )
        if self.head_dim < 1:
            raise ValueError(f"head_dim={self.head_dim} must be at least 1.")
        for name in ("center_grids", "folds"):
            pairs = getattr(self, name)
            if len(pairs) != 4 or any(len(pair) != 2 or min(pair) < 1 for pair in pairs):
                raise ValueError(f"{name}={pairs} must be four pairs of numbers of at least 1.")

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> Features:
        """Runs the backbone.

        Args:
          images: `[B, H, W, 3]`, normalized RGB; H and W at least the patch size.
          train: Whether branches are dropped; needs the random stream `dropout`.

        Returns:
          The levels `[B, H_s, W_s, dims[s]]`, and of each stage the clusters and weights of its
          last block, and the cells of the next stage that its pixels joined.
        """
        size, stride, padding = self.patch
        check_images(images, max(size - 2 * padding, 1))
        points = with_coordinates(images.astype(self.dtype))
        x = uniform_conv(self.dims[0], points.shape[-1], self.patch, "embed", self.dtype)(points)
        owners = window_owners(images.shape[1:3], x.shape[1:3], size, stride, padding)
        levels, maps = [], []
        for stage in range(4):
            name = f"stage{stage + 1}"
            block_class = rematerialized(Block, self.remat, train_argument=1)
            for i, rate in enumerate(drop_path_rates(self.drop_path, self.depths)[stage]):
                block = block_class(
                    self.mixer(stage),
                    self.mlp_ratios[stage],
                    rate,
                    self.dtype,
                    name=f"{name}_block{i}",
                )
                x, clusters, weights = block(x, train)
            norm = group_norm(f"{name}_norm", self.dtype, EPSILON)
            levels.append(norm(x) if self.level_norms else x)
            parents = None
            if stage < 3:
                x, parents = self.reduce(x, stage)
            maps.append(StageMaps(clusters, weights, parents))
        return Features(tuple(levels), tuple(maps), for_each_image(owners, images.shape[0]))

    @nn.nowrap
    def mixer(self, stage: int) -> nn.Module:
        """The mixer of a stage's blocks, see `Block`; unbound."""
        raise NotImplementedError

    def reduce(self, x: jax.Array, stage: int) -> tuple[jax.Array, jax.Array]:
        """A stage's points `[B, H, W, C]` to the next one's and the parents `[B, H, W]`.

        A convolution, whose nearest window is a pixel's parent.
        """
        width = self.dims[stage + 1]
        reducer = uniform_conv(width, x.shape[-1], REDUCER, f"pool{stage + 1}", self.dtype)
        y = reducer(x)
        return y, for_each_image(window_owners(x.shape[1:3], y.shape[1:3], *REDUCER), len(x))


def torch_names_of_stages(
    backbone: PointStages,
    mixer: tuple[names.Entry, ...],
    mlp: names.Kind,
    pool: tuple[names.Entry, ...] | None = None,
) -> Iterator[names.Entry]:
    """The names of the published codes' checkpoints.

    Args:
      backbone: What the names are of.
      mixer: Names within a mixer.
      mlp: What the maps of the MLP are in PyTorch.
      pool: Names within what lies between two stages; of the convolution if None.
    """
    yield from names.layer("patch_embed.proj", "embed", names.CONV)
    for stage, depth in enumerate(backbone.depths):
        for block in range(depth):
            torch, flax = f"network.{2 * stage}.{block}", f"stage{stage + 1}_block{block}"
            for i in (1, 2):
                yield names.Entry(f"{torch}.layer_scale_{i}", f"{flax}/scale{i}", names.SAME)
                yield from names.norm(f"{torch}.norm{i}", f"{flax}/norm{i}")
            yield from names.below(mixer, f"{torch}.token_mixer.", f"{flax}/mixer")
            yield from names.layer(f"{torch}.mlp.fc1", f"{flax}/expand", mlp)
            yield from names.layer(f"{torch}.mlp.fc2", f"{flax}/project", mlp)
        torch, flax = f"network.{2 * stage + 1}", f"pool{stage + 1}"
        if stage < 3 and pool is None:
            yield from names.layer(f"{torch}.proj", flax, names.CONV)
        elif stage < 3:
            yield from names.below(pool, f"{torch}.", flax)
        if backbone.level_norms:
            yield from names.norm(f"norm{2 * stage}", f"stage{stage + 1}_norm")
