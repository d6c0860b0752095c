"""Features of a backbone: the levels of its pyramid, and what each stage looked at."""

from typing import Protocol

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np


@flax.struct.dataclass
class StageMaps:
    """What one stage looked at; a field is None where a family has none.

    Attributes:
      clusters: int32 `[B, G, H_s, W_s]`, the cluster of each pixel, per head or scale.
      weights: float32 `[B, G, H_s, W_s]`, how well each pixel fits its cluster.
      parents: int32 `[B, H_s, W_s]`, the row-major cell of the next stage that each pixel
        joined; None at the last stage.
      gate: float `[B, depth, G, rows, columns]` in 0 .. 1, what each center took from its
        neighborhood, per block.
    """

    clusters: jax.Array
    weights: jax.Array | None = None
    parents: jax.Array | None = None
    gate: jax.Array | None = None


@flax.struct.dataclass
class Features:
    """What a backbone returns; under jit, fields that nobody reads cost nothing.

    Attributes:
      levels: `[B, H_s, W_s, channels[s]]` of each stage, finest first.
      maps: What each stage looked at.
      pixel_owners: int32 `[B, H, W]`, the row-major pixel of the first level that owns each
        image pixel.
    """

    levels: tuple[jax.Array, ...]
    maps: tuple[StageMaps, ...]
    pixel_owners: jax.Array


class Backbone(Protocol):
    """What a head may rely on.

    Attributes:
      channels: Width of each level.
      strides: Image pixels per pixel of each level, along an axis.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    def __call__(self, images: jax.Array, train: bool = False) -> Features:
        """`images` is `[B, H, W, 3]`, normalized."""
        ...


def check_images(images: jax.Array, min_side: int = 1) -> None:
    """Raises a ValueError for what is not a batch of RGB images of at least `min_side` pixels."""
    if images.ndim != 4 or images.shape[-1] != 3 or min(images.shape[1:3]) < min_side:
        raise ValueError(
            f"images have shape {images.shape}; expected [batch, height, width, 3] "
            f"with height and width at least {min_side}."
        )


def check_levels(levels: tuple[jax.Array, ...], channels: tuple[int, ...]) -> None:
    """Raises a ValueError for what are not batches of maps, `channels[s]` wide."""
    shapes = [level.shape for level in levels]
    if any(len(shape) != 4 for shape in shapes) or [s[-1] for s in shapes] != [*channels]:
        expected = ", ".join(f"[batch, height, width, {width}]" for width in channels)
        raise ValueError(f"levels have the shapes {shapes}; expected {expected}.")


def window_owners(
    size: tuple[int, int], cells: tuple[int, int], window: int, stride: int, padding: int
) -> np.ndarray:
    """The window of a convolution whose middle is nearest to each pixel.

    Args:
      size: Height and width of the input.
      cells: Rows and columns of the output.
      window, stride, padding: Of the convolution, the same along both axes.

    Returns:
      int32 `[H, W]`, row-major cells. Pixels beyond the last window belong to the nearest one.
    """

    def nearest(pixels: int, count: int) -> np.ndarray:
        middle = (np.arange(pixels) - (window - 1) / 2 + padding) / stride
        return np.clip(np.floor(middle + 0.5).astype(np.int32), 0, count - 1)

    rows, columns = (nearest(n, m) for n, m in zip(size, cells, strict=True))
    return rows[:, None] * cells[1] + columns[None]


def for_each_image(owners: np.ndarray, batch: int) -> jax.Array:
    """`[H, W]` to `[B, H, W]`: the same owners in every image."""
    return jnp.broadcast_to(jnp.asarray(owners), (batch, *owners.shape))
