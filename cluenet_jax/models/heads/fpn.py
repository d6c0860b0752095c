"""The feature pyramid network: the neck of Semantic FPN, of detectors and of a pose head."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from flax import linen as nn

from cluenet_jax import ops
from cluenet_jax.models import torch_names as names

UPSAMPLINGS = {"nearest": ops.resize_nearest, "bilinear": ops.resize_bilinear}


class FPN(nn.Module):
    """Levels of one width, each with the context of all coarser ones (arXiv 1612.03144).

        L_i = conv1x1(C_i); from the top down L_i += resize(L_{i+1}); P_i = conv3x3(L_i)

    as mmsegmentation's and mmdetection's `FPN`. Convolutions have a bias; no norm, no activation.

    Attributes:
      width: Channels of all outputs.
      upsampling: A key of `UPSAMPLINGS`.
      num_extra_levels: Outputs after the last level, each every second pixel of the one before
        along both axes (Mask R-CNN has one, P6).
      num_conv_levels: Instead, outputs by convolutions of stride 2, the first of the last level
        given, the next ones of the output before (RetinaNet has P6 and P7).
      dtype: Type of the convolutions and of the outputs.
    """

    width: int
    upsampling: str = "nearest"
    num_extra_levels: int = 0
    num_conv_levels: int = 0
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        super().__post_init__()
        if self.upsampling not in UPSAMPLINGS:
            raise ValueError(
                f"upsampling={self.upsampling!r} is not one of {', '.join(UPSAMPLINGS)}."
            )

    @nn.compact
    def __call__(self, levels: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        """`levels` are `[B, H_s, W_s, C_s]`, finest first; returns `[B, H_s, W_s, width]`."""
        init, resize = nn.initializers.xavier_uniform(), UPSAMPLINGS[self.upsampling]
        laterals = [
            nn.Dense(self.width, kernel_init=init, dtype=self.dtype, name=f"lateral{i}")(level)
            for i, level in enumerate(levels, 1)
        ]
        laterals = top_down(laterals, resize)
        outputs = [
            nn.Conv(
                self.width, (3, 3), padding=1, kernel_init=init, dtype=self.dtype, name=f"output{i}"
            )(lateral)
            for i, lateral in enumerate(laterals, 1)
        ]
        for _ in range(self.num_extra_levels):
            outputs.append(outputs[-1][:, ::2, ::2])
        x = levels[-1]
        for i in range(len(levels) + 1, len(levels) + 1 + self.num_conv_levels):
            conv = nn.Conv(
                self.width, (3, 3), 2, padding=1, kernel_init=init, dtype=self.dtype,
                name=f"output{i}",
            )  # fmt: skip
            x = conv(x)
            outputs.append(x)
        return tuple(outputs)


def top_down(
    laterals: list[jax.Array], resize: Callable[[jax.Array, tuple[int, int]], jax.Array]
) -> list[jax.Array]:
    """Adds to each map the sum of all coarser ones, resized from one to the next finer."""
    sums = [laterals[-1]]
    for lateral in laterals[-2::-1]:
        sums.append(lateral + resize(sums[-1], lateral.shape[1:3]))
    return sums[::-1]


def torch_names(num_levels: int, num_conv_levels: int = 0) -> Iterator[names.Entry]:
    """The names of the neck of `num_levels` levels in mmsegmentation's checkpoints."""
    for i in range(num_levels):
        yield from names.layer(f"lateral_convs.{i}.conv", f"lateral{i + 1}", names.CONV1X1)
    for i in range(num_levels + num_conv_levels):
        yield from names.layer(f"fpn_convs.{i}.conv", f"output{i + 1}", names.CONV)
