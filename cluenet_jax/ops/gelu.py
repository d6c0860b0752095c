"""GELU."""

import jax
import numpy as np

_SQRT_HALF = np.float32(np.sqrt(0.5))


def gelu(x: jax.Array) -> jax.Array:
    """`x Phi(x)`, Phi the normal distribution function; any shape, computed in the type of `x`."""
    return x * (0.5 * (1 + jax.lax.erf(x * _SQRT_HALF.astype(x.dtype))))
