"""The loss of segmentation: cross-entropy over the labeled pixels."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

DENOMINATORS = ("labeled", "all")


def segmentation_loss(
    logits: jax.Array,
    labels: jax.Array,
    ignore: int = 255,
    denominator: str = "labeled",
    class_weights: Sequence[float] = (),
) -> tuple[jax.Array, jax.Array]:
    """Sums and counts whose quotient, over a batch, is the mean cross-entropy of a pixel.

    The mean is 0 where every pixel is ignored: there both are 0, or the sum alone.

    Args:
      logits: `[B, H, W, C]`, of the labels' size.
      labels: `[B, H, W]` integers in 0 .. C-1, or `ignore`.
      ignore: The label that adds nothing.
      denominator: "labeled": pixels that are not ignored; "all": those too, as mmsegmentation
        counts by default.
      class_weights: One for each class, by which its pixels count in both; 1 each if empty.

    Returns:
      float32 `[B]` each: sums in nats, and counts.

    Raises:
      ValueError: Another denominator, or not as many weights as classes.
    """
    if denominator not in DENOMINATORS:
        raise ValueError(f"{denominator=} must be one of {', '.join(DENOMINATORS)}.")
    num_classes = logits.shape[-1]
    if len(class_weights) not in (0, num_classes):
        raise ValueError(f"{len(class_weights)} class_weights for {num_classes} classes.")
    logits, labels = logits.astype(jnp.float32), labels.astype(jnp.int32)
    # A selection by comparison: its gradient is no scatter.
    own = labels[..., None] == jnp.arange(num_classes, dtype=jnp.int32)
    losses = jax.nn.logsumexp(logits, axis=-1) - jnp.sum(jnp.where(own, logits, 0), axis=-1)
    labeled = labels != ignore
    weights = 1.0
    if class_weights:
        weights = jnp.where(own, jnp.asarray(class_weights, jnp.float32), 0).sum(-1)
    sums = jnp.sum(jnp.where(labeled, weights * losses, 0), axis=(1, 2))
    counts = jnp.where(labeled, weights, 0.0 if denominator == "labeled" else 1.0)
    return sums, jnp.sum(counts, axis=(1, 2))
