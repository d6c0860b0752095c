"""Cosine similarity without normalized copies of the points, and the gradients through it.

With q the normalized centers, and r the inverse lengths of the points x, the cosines are
`(q x^T) r`: a product with the points as they are, and a factor per column that XLA fuses.
"""

import jax
import jax.numpy as jnp

from cluenet_jax.ops.cosine import SHORTEST, inverse_length, l2_normalize
from cluenet_jax.ops.one_hot import product


def cosines(centers: jax.Array, points: jax.Array) -> jax.Array:
    """As `ops.cosine.cosine_similarity`."""
    products = product("...md,...nd->...mn", l2_normalize(centers), points)
    return products * inverse_length(points)[..., None, :]


def centers_gradient(centers: jax.Array, grad: jax.Array) -> jax.Array:
    """Gradient of the centers, from that of the normalized ones `[..., M, D]`."""
    return jax.vjp(l2_normalize, centers)[1](grad)[0]


def points_gradient(points: jax.Array, grad: jax.Array) -> jax.Array:
    """Gradient of the points.

    Args:
      points: `[..., N, D]`.
      grad: `[..., N, D]` float32, that of the normalized points times their inverse lengths.
    """
    rows = points.astype(jnp.float32)
    along = jnp.sum(rows * grad, axis=-1) * jnp.square(inverse_length(points))
    # A point of no length is divided by a constant.
    along = jnp.where(jnp.sum(jnp.square(rows), axis=-1) > SHORTEST**2, along, 0)
    return (grad - rows * along[..., None]).astype(points.dtype)
