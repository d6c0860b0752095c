"""The loss of segmentation: cross-entropy over the labeled pixels."""

import jax
import jax.numpy as jnp

DENOMINATORS = ("labeled", "all")


def segmentation_loss(
    logits: jax.Array, labels: jax.Array, ignore: int = 255, denominator: str = "labeled"
) -> tuple[jax.Array, jax.Array]:
    """Sums and counts whose quotient, over a batch, is the mean cross-entropy of a pixel.

    The mean is `sums.sum() / jnp.maximum(counts.sum(), 1)`: 0 where every pixel is ignored.

    Args:
      logits: `[B, H, W, C]`, of the labels' size.
      labels: `[B, H, W]` integers in 0 .. C-1, or `ignore`.
      ignore: The label that adds nothing.
      denominator: "labeled": pixels that are not ignored; "all": those too, as mmsegmentation
        counts by default.

    Returns:
      float32 `[B]` each: sums in nats, and counts.

    Raises:
      ValueError: Another denominator.
    """
    if denominator not in DENOMINATORS:
        raise ValueError(f"{denominator=} must be one of {', '.join(DENOMINATORS)}.")
    logits, labels = logits.astype(jnp.float32), labels.astype(jnp.int32)
    # A selection by comparison: its gradient is no scatter.
    own = labels[..., None] == jnp.arange(logits.shape[-1], dtype=jnp.int32)
    losses = jax.nn.logsumexp(logits, axis=-1) - jnp.sum(jnp.where(own, logits, 0), axis=-1)
    labeled = labels != ignore
    sums = jnp.sum(jnp.where(labeled, losses, 0), axis=(1, 2))
    counted = labeled if denominator == "labeled" else jnp.ones_like(labeled)
    return sums, jnp.sum(counted, axis=(1, 2), dtype=jnp.float32)
