"""The training loss."""

import jax
import optax


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Cross-entropy of each example.

    Args:
      logits: `[B, classes]` float32.
      labels: `[B]` integers in 0 .. classes-1.
      smoothing: Share of the target spread evenly over all classes, 0 .. 1.

    Returns:
      `[B]` float32, in nats.
    """
    if not smoothing:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits, targets)
