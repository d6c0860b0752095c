"""GELU, keeping only its input for the gradient."""

import jax
import numpy as np

_SQRT_HALF = np.float32(np.sqrt(0.5))


@jax.checkpoint
def gelu(x: jax.Array) -> jax.Array:
    """`x Phi(x)`, Phi the normal distribution function; any shape, computed in the type of `x`.

    `jax.nn.gelu` would store several arrays as large as `x` for the gradient, which in the wide
    layer of an MLP are most of a training step's memory.
    """
    return x * (0.5 * (1 + jax.lax.erf(x * _SQRT_HALF.astype(x.dtype))))
