"""Heatmaps of keypoints: targets, decoding, the mean of an image's and its mirrored image's.

Source: mmpose's `MSRAHeatmap` (1.3.2), arXiv 1804.06208 before it.
"""

import jax
import jax.numpy as jnp
import numpy as np

# A peak is drawn this many sigma far, and cut off beyond.
_REACH = 3


def heatmap_targets(
    points: jax.Array, visible: jax.Array, size: tuple[int, int], stride: float, sigma: float
) -> tuple[jax.Array, jax.Array]:
    """A peak of height 1 for each keypoint, at the whole pixel nearest to it.

    Args:
      points: float32 `[B, K, 2]`, x and y in pixels of the image.
      visible: float32 `[B, K]`, 0 or 1.
      size: Height and width of the maps.
      stride: Pixels of the image per pixel of a map.
      sigma: Of the normal distribution that a peak has the form of, in pixels of a map.

    Returns:
      Targets float32 `[B, *size, K]`, and weights float32 `[B, K]`: `visible`, 0 where the whole
      peak is outside of the map.
    """
    height, width = size
    reach = int(_REACH * sigma)
    # Truncation toward zero, as published, also of what is left of the map.
    middle = jnp.trunc(points / stride + 0.5)
    limits = jnp.array([width, height], middle.dtype)
    outside = ((middle - reach >= limits) | (middle + reach + 1 < 0)).any(-1)
    weights = jnp.where(outside, 0, visible)
    rows = _peak(height, middle[:, None, :, 1], reach, sigma)
    columns = _peak(width, middle[:, None, :, 0], reach, sigma)
    drawn = ~outside & (visible >= 0.5)
    targets = rows[:, :, None] * columns[:, None]
    return jnp.where(drawn[:, None, None], targets, 0), weights


def _peak(length: int, middle: jax.Array, reach: int, sigma: float) -> jax.Array:
    """`[B, length, K]` along one axis."""
    distance = jnp.arange(length, dtype=jnp.float32)[:, None] - middle
    value = jnp.exp(-jnp.square(distance) / (2 * sigma**2))
    return jnp.where(jnp.abs(distance) <= reach, value, 0)


def heatmap_loss(heatmaps: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    """The mean of squared weighted differences over images, pixels and keypoints.

    Args:
      heatmaps, targets: `[B, H, W, K]`.
      weights: `[B, K]`.

    Returns:
      A float32 scalar.
    """
    return jnp.square((heatmaps - targets) * weights[:, None, None]).mean()


def decode_heatmaps(heatmaps: jax.Array, *, together: bool = False) -> tuple[jax.Array, jax.Array]:
    """The highest pixel of each map, moved a quarter pixel toward its higher neighbor.

    Args:
      heatmaps: float32 `[B, H, W, K]`.
      together: Near a border neither coordinate moves, as mmpose 0.x has it, instead of each axis
        for itself, as mmpose 1.x.

    Returns:
      float32 `[B, K, 2]`, x and y in pixels of a map, (-1, -1) where no value is above 0; and the
      highest values, float32 `[B, K]`.
    """
    batch, height, width, count = heatmaps.shape
    flat = heatmaps.reshape(batch, height * width, count)
    highest = flat.max(1)
    pixels = jnp.arange(height * width, dtype=jnp.int32)[:, None]
    # Of equal ones the first: two reductions, which every backend does well.
    index = jnp.where(flat == highest[:, None], pixels, height * width).min(1)
    x, y = index % width, index // width
    at_peak = (pixels == index[:, None]).reshape(heatmaps.shape)
    framed = jnp.pad(heatmaps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rise_x = framed[:, 1:-1, 2:] - framed[:, 1:-1, :-2]
    rise_y = framed[:, 2:, 1:-1] - framed[:, :-2, 1:-1]
    slope_x, slope_y = (jnp.where(at_peak, rise, 0).sum((1, 2)) for rise in (rise_x, rise_y))
    inner_x, inner_y = (1 < x) & (x < width - 1), (1 < y) & (y < height - 1)
    if together:
        inner_x = inner_y = inner_x & inner_y
    else:
        inner_x, inner_y = inner_x & (y > 0), inner_y & (x > 0)
    places = jnp.stack([x, y], axis=-1).astype(jnp.float32)
    inner = jnp.stack([inner_x, inner_y], axis=-1)
    places += 0.25 * jnp.where(inner, jnp.sign(jnp.stack([slope_x, slope_y], axis=-1)), 0)
    return jnp.where((highest > 0)[..., None], places, -1), highest


def merge_mirrored(
    heatmaps: jax.Array, mirrored: jax.Array, order: np.ndarray, shift: bool = True
) -> jax.Array:
    """The mean of the maps of images and of the same images mirrored.

    Args:
      heatmaps, mirrored: float32 `[B, H, W, K]`.
      order: int `[K]`, which keypoint each one is in a mirrored image.
      shift: Whether what is mirrored back moves a pixel to the right, as published: its pixels'
        centers are mirrored at another axis than the image's.

    Returns:
      float32 `[B, H, W, K]`.
    """
    swap = np.eye(len(order), dtype=np.float32)[:, order]
    # An exact product, where taking channels by their index would be a gather.
    back = jnp.matmul(mirrored[:, :, ::-1], swap, precision=jax.lax.Precision.HIGHEST)
    if shift:
        back = jnp.concatenate([back[:, :, :1], back[:, :, :-1]], axis=2)
    return (heatmaps + back) / 2
