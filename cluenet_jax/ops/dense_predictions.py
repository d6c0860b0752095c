"""Classes of pixels at a size of each image's own, from logits of coarser grids.

Class scores of every pixel of a large image do not fit into memory for many classes, so rows are
taken a block at a time. Nothing of the size of the image and the classes is stored.
"""

import dataclasses

import jax
import jax.numpy as jnp

_IGNORED = 255


@dataclasses.dataclass(frozen=True)
class View:
    """Logits of one look at the images: at one scale, perhaps mirrored back.

    Attributes:
      logits: `[B, h, w, C]`.
      size: Rows and columns of the images that the model saw, to which logits are resized first.
    """

    logits: jax.Array
    size: tuple[int, int]


def dense_predictions(
    views: list[View],
    sizes: jax.Array,
    canvas: tuple[int, int],
    labels: jax.Array | None = None,
    block_rows: int = 32,
) -> tuple[jax.Array, jax.Array]:
    """Classes, and the loss against labels.

    Logits are resized bilinearly to their view's size and from there to each image's own, as
    mmsegmentation does; of several views the mean of the probabilities counts.

    Args:
      views: At least one.
      sizes: int32 `[B, 2]`, rows and columns of each image, at most those of the canvas.
      canvas: Rows and columns of the result; what is beyond an image is not meaningful.
      labels: `[B, *canvas]` integers, 255 where nothing is counted; None for no loss.
      block_rows: Rows at a time.

    Returns:
      int32 `[B, *canvas]` classes, and float32 `[B]`, the sums of the cross-entropies in nats.
    """
    height, width = canvas
    batch = len(sizes)
    blocks = -(-height // block_rows)
    filled = blocks * block_rows
    rows = [_weights(sizes[:, 0], filled, view.size[0], view.logits.shape[1]) for view in views]
    columns = [_weights(sizes[:, 1], width, view.size[1], view.logits.shape[2]) for view in views]
    if labels is None:
        labels = jnp.full((batch, height, width), _IGNORED, jnp.uint8)
    labels = jnp.pad(labels, ((0, 0), (0, filled - height), (0, 0)), constant_values=_IGNORED)

    def in_blocks(x: jax.Array) -> jax.Array:
        return jnp.swapaxes(x.reshape(batch, blocks, block_rows, *x.shape[2:]), 0, 1)

    def block(inputs: tuple[list[jax.Array], jax.Array]) -> tuple[jax.Array, jax.Array]:
        block_weights, block_labels = inputs
        resized = [
            _resized(view.logits, r, c)
            for view, r, c in zip(views, block_weights, columns, strict=True)
        ]
        scores = resized[0]
        if len(views) > 1:
            scores = jnp.log(sum(map(jax.nn.softmax, resized)) / len(views))
        own = block_labels[..., None] == jnp.arange(scores.shape[-1], dtype=block_labels.dtype)
        losses = jax.nn.logsumexp(scores, axis=-1) - jnp.sum(jnp.where(own, scores, 0), axis=-1)
        losses = jnp.where(block_labels == _IGNORED, 0, losses)
        return scores.argmax(-1).astype(jnp.int32), losses.sum(axis=(1, 2))

    inputs = ([in_blocks(r) for r in rows], in_blocks(labels))
    classes, losses = jax.lax.map(block, inputs)
    return jnp.swapaxes(classes, 0, 1).reshape(batch, filled, width)[:, :height], losses.sum(0)


def _resized(logits: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """`[B, h, w, C]` by `[B, i, h]` and `[B, j, w]` to `[B, i, j, C]`."""
    exact = jax.lax.Precision.HIGHEST
    x = jnp.einsum("bih,bhwc->biwc", rows, logits.astype(jnp.float32), precision=exact)
    return jnp.einsum("bjw,biwc->bijc", columns, x, precision=exact)


def _weights(sizes: jax.Array, canvas: int, middle: int, size: int) -> jax.Array:
    """`[B, canvas, size]`: bilinear resizing of an axis to `middle`, and to each image's size."""
    first = bilinear_weights(jnp.full((1,), middle), middle, size)[0]
    second = bilinear_weights(sizes, canvas, middle)
    return jnp.einsum("bim,mh->bih", second, first, precision=jax.lax.Precision.HIGHEST)


def bilinear_weights(new_sizes: jax.Array, canvas: int, size: int) -> jax.Array:
    """Weights of bilinear resizing of an axis, as `ops.resize_bilinear`, to sizes known late.

    Args:
      new_sizes: `[B]` integers, the new size of each image.
      canvas: New pixels that are described; those beyond an image repeat its last one.
      size: Of the axis.

    Returns:
      float32 `[B, canvas, size]`.
    """
    new_sizes = new_sizes.astype(jnp.float32)[:, None]
    position = (jnp.arange(canvas, dtype=jnp.float32) + 0.5) * (size / new_sizes) - 0.5
    position = jnp.clip(position, 0, size - 1)
    distance = jnp.abs(position[..., None] - jnp.arange(size, dtype=jnp.float32))
    return jnp.maximum(1 - distance, 0)
