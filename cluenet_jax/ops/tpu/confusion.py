"""Confusion matrices as products of the one-hot matrices of truth and prediction."""

import jax
import jax.numpy as jnp

from cluenet_jax.ops.confusion import flat_pixels, true_classes
from cluenet_jax.ops.one_hot import members, select


def confusion_matrix(
    prediction: jax.Array, label: jax.Array, *, num_classes: int, ignore: int, block_entries: int
) -> jax.Array:
    """As `ops.confusion.confusion_matrix`.

    A one-hot matrix of an image has about `block_entries` at most (2**24 would be too many: sums
    of ones are exact in float32 up to there); blocks of pixels are counted one after the other.
    """
    truth, prediction = true_classes(label, num_classes, ignore), flat_pixels(prediction)
    batch, pixels = truth.shape
    block = max(1, min(pixels, block_entries // num_classes))
    padding = ((0, 0), (0, -pixels % block))

    def blocks(index: jax.Array) -> jax.Array:
        padded = jnp.pad(index, padding, constant_values=-1)
        return padded.reshape(batch, -1, block).swapaxes(0, 1)

    def add(total: jax.Array, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        # Zeros and ones are exact in bfloat16.
        chosen = [members(index, num_classes).astype(jnp.bfloat16) for index in pair]
        return total + select("bin,bjn->bij", *chosen).astype(jnp.int32), None

    zeros = jnp.zeros((batch, num_classes, num_classes), jnp.int32)
    return jax.lax.scan(add, zeros, (blocks(truth), blocks(prediction)))[0]
