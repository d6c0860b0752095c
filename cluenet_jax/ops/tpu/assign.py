"""Hard assignment and dispatch by masked sums and products with one-hot matrices."""

import jax
import jax.numpy as jnp

from cluenet_jax.ops.assign import argmax_rows
from cluenet_jax.ops.cosine import inverse_length, l2_normalize
from cluenet_jax.ops.one_hot import product, select, take_rows, weighted_members
from cluenet_jax.ops.tpu.cosine import centers_gradient, cosines, points_gradient


def hard_assign(scores: jax.Array) -> tuple[jax.Array, jax.Array]:
    """As `ops.assign.hard_assign`."""
    return argmax_rows(scores), jnp.max(scores, axis=-2)


def assign_gradient(grad: jax.Array, index: jax.Array, num_clusters: int) -> jax.Array:
    """Gradient of the scores `[..., M, N]`, from that of the chosen ones `[..., N]`."""
    return weighted_members(index, grad, num_clusters)


@jax.custom_vjp
def best_fit(
    queries: jax.Array, points: jax.Array, scale: jax.Array, shift: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """As `ops.assign.best_fit`, with gradients in reverse mode only.

    Its gradient reaches the chosen scores alone, so no score is kept for it.
    """
    return hard_assign(jax.nn.sigmoid(shift + scale * cosines(queries, points)))


def _fit_forward(queries: jax.Array, points: jax.Array, scale: jax.Array, shift: jax.Array):
    index, weight = best_fit(queries, points, scale, shift)
    return (index, weight), (queries, points, scale, index, weight)


def _fit_backward(saved: tuple[jax.Array, ...], grads: tuple[jax.Array, jax.Array]):
    queries, points, scale, index, weight = saved
    dtype = points.dtype
    grad = grads[1] * weight * (1 - weight)
    normalized = l2_normalize(queries)

    def weighted(weights: jax.Array) -> jax.Array:
        return weighted_members(index, weights.astype(dtype), queries.shape[-2])

    scaled = grad * inverse_length(points)
    # 1 over `scale` times the gradient of the normalized queries.
    pulled = product("...mn,...nd->...md", weighted(scaled), points)
    pushed = product("...mn,...md->...nd", weighted(scaled * scale), normalized.astype(dtype))
    return (
        centers_gradient(queries, scale * pulled),
        points_gradient(points, pushed),
        jnp.sum(normalized * pulled),
        jnp.sum(grad),
    )


best_fit.defvjp(_fit_forward, _fit_backward)


def dispatch(index: jax.Array, weight: jax.Array, centers: jax.Array) -> jax.Array:
    """As `ops.assign.dispatch`: the one-hot matrix holds the weights."""
    rows = select("...mn,...md->...nd", _weighted(index, weight, centers), centers)
    return rows.astype(centers.dtype)


def dispatch_gradients(
    index: jax.Array, weight: jax.Array, centers: jax.Array, grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """As `ops.assign.dispatch_gradients`."""
    own = take_rows(centers, index).astype(jnp.float32)
    to_own = jnp.sum(own * grad.astype(jnp.float32), axis=-1)
    sums = select("...mn,...nd->...md", _weighted(index, weight, centers), grad)
    return to_own.astype(weight.dtype), sums.astype(centers.dtype)


def _weighted(index: jax.Array, weight: jax.Array, centers: jax.Array) -> jax.Array:
    """`[..., M, N]` of the type of `centers`, each point's weight at its center."""
    return weighted_members(index, weight.astype(centers.dtype), centers.shape[-2])
