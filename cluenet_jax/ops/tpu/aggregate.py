"""Aggregation that computes the weights again for its gradients, in few passes over them.

The weights `[..., M, N]` are the largest arrays of a cluster attention. Stored are a number per
center (the logarithm of its softmax's denominator) and the result; the gradients of
normalization, softmax and temperature are sums over D, not over N or M:

    L = cos(centers, points) / t        A = exp(L - log sum exp L)        C = A V
    dV = A^T dC                         dL = A * (dC V^T - rows of sum(dC * C))
    dt = -sum(q * (dL x^)) / t^2        q, x^: the normalized centers and points
"""

import jax
import jax.numpy as jnp

from cluenet_jax.ops.cosine import inverse_length, l2_normalize
from cluenet_jax.ops.one_hot import product
from cluenet_jax.ops.tpu.cosine import centers_gradient, cosines, points_gradient


@jax.custom_vjp
def aggregate(
    centers: jax.Array, points: jax.Array, values: jax.Array, temperature: jax.Array
) -> jax.Array:
    """As `ops.aggregate.aggregate`, with gradients in reverse mode only."""
    return _forward(centers, points, values, temperature)[0]


def _forward(*inputs: jax.Array):
    centers, points, values, temperature = inputs
    logits = cosines(centers, points) / temperature
    highest = jnp.max(logits, axis=-1, keepdims=True)
    weights = jnp.exp(logits - highest).astype(values.dtype)
    # With a column of ones the product gives the sums of the weights too.
    ones = jnp.ones((*values.shape[:-1], 1), values.dtype)
    sums = product("...mn,...nd->...md", weights, jnp.concatenate([values, ones], axis=-1))
    total = sums[..., -1:]
    out = sums[..., :-1] / total
    return out.astype(values.dtype), (inputs, highest + jnp.log(total), out)


def _backward(saved: tuple, grad: jax.Array):
    (centers, points, values, temperature), log_total, out = saved
    dtype = values.dtype
    weights = jnp.exp(cosines(centers, points) / temperature - log_total)
    values_grad = product("...mn,...md->...nd", weights.astype(dtype), grad)
    along = jnp.sum(grad.astype(jnp.float32) * out, axis=-1, keepdims=True)
    logits_grad = weights * (product("...md,...nd->...mn", grad, values) - along)
    scaled = (logits_grad * inverse_length(points)[..., None, :]).astype(dtype)
    # `temperature` times the gradient of the normalized centers.
    pulled = product("...mn,...nd->...md", scaled, points)
    normalized = l2_normalize(centers)
    temperature_grad = -jnp.sum(normalized * pulled) / temperature**2
    pushed = product("...mn,...md->...nd", scaled, (normalized / temperature).astype(dtype))
    return (
        centers_gradient(centers, pulled / temperature),
        points_gradient(points, pushed),
        values_grad.astype(dtype),
        temperature_grad,
    )


aggregate.defvjp(_forward, _backward)
