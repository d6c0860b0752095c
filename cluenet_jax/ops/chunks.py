"""Functions of many boxes or points, run for a part of them at a time to save memory."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from cluenet_jax.ops.ranking import pad_to


def in_chunks(function: Callable[..., jax.Array], size: int, *inputs: jax.Array) -> jax.Array:
    """The result of a function that treats each entry of the second axis on its own.

    Args:
      function: Of arrays `[B, n, ...]`, to one `[B, n, ...]`.
      size: Entries at a time; the last ones are filled up with zeros.
      *inputs: `[B, N, ...]` each.
    """
    batch, count = inputs[0].shape[:2]
    if count <= size:
        return function(*inputs)
    parts = -(-count // size)

    def split(x: jax.Array) -> jax.Array:
        x = pad_to(x, parts * size)
        return jnp.moveaxis(x.reshape(batch, parts, size, *x.shape[2:]), 1, 0)

    outputs = jax.lax.map(lambda part: function(*part), [*map(split, inputs)])
    outputs = jnp.moveaxis(outputs, 0, 1)
    return outputs.reshape(batch, parts * size, *outputs.shape[3:])[:, :count]
