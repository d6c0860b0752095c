"""The training loss."""

import jax
import optax


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross-entropy of each example.

    Args:
      logits: `[B, classes]` float32.
      targets: `[B]` integers in 0 .. classes-1, or `[B, classes]` that sum to 1.

    Returns:
      `[B]` float32, in nats.
    """
    if targets.ndim == 1:
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    return optax.softmax_cross_entropy(logits, targets)
