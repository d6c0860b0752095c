"""Assignment and dispatch by one-hot matrices against the plain form, forward and backward."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cluenet_jax.ops import assign
from cluenet_jax.ops.tpu import assign as tpu_assign
from tests.ops.inputs import integers, normal

# Leading axes, centers, points and channels.
SHAPES = [((2, 3), 5, 17, 4), ((1,), 1, 6, 3), ((), 4, 9, 1)]


@pytest.mark.parametrize("ties", [False, True])
def test_the_choice_and_its_gradient_equal_the_plain_ones(ties):
    scores = normal(0, 2, 5, 40)
    scores = np.round(scores) if ties else scores
    (index, weight), pull = jax.vjp(assign.hard_assign, scores)
    chex.assert_trees_all_equal(tpu_assign.hard_assign(scores), (index, weight))
    grad = normal(1, 2, 40)
    no_gradient = np.zeros(index.shape, jax.dtypes.float0)
    expected = pull((no_gradient, grad))[0]
    np.testing.assert_array_equal(tpu_assign.assign_gradient(grad, index, 5), expected)


@pytest.mark.parametrize("scale", [1.7, 0.0, -0.8])
@pytest.mark.parametrize(("leading", "clusters", "points", "channels"), SHAPES)
def test_the_best_fit_and_its_gradients_equal_the_plain_ones(
    leading, clusters, points, channels, scale
):
    arguments = (
        normal(0, *leading, clusters, channels),
        normal(1, *leading, points, channels),
        jnp.float32(scale),
        jnp.float32(0.3),
    )
    (index, weight), plain_pull = jax.vjp(assign.best_fit, *arguments)
    (found, fit), pull = jax.vjp(tpu_assign.best_fit, *arguments)
    np.testing.assert_array_equal(found, index)
    np.testing.assert_allclose(fit, weight, rtol=1e-6)
    grads = np.zeros(index.shape, jax.dtypes.float0), normal(2, *leading, points)
    chex.assert_trees_all_close(pull(grads), plain_pull(grads), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("leading", "clusters", "points", "channels"), SHAPES)
def test_dispatch_and_its_gradients_equal_the_plain_ones(leading, clusters, points, channels):
    index, weight = integers(0, clusters, *leading, points), normal(1, *leading, points)
    centers, grad = normal(2, *leading, clusters, channels), normal(3, *leading, points, channels)
    expected = assign.dispatch(index, weight, centers)
    np.testing.assert_allclose(tpu_assign.dispatch(index, weight, centers), expected, rtol=1e-6)
    chex.assert_trees_all_close(
        tpu_assign.dispatch_gradients(index, weight, centers, grad),
        assign.dispatch_gradients(index, weight, centers, grad),
        atol=1e-5,
    )


def test_half_precision_gives_the_same_to_the_last_bit():
    index = integers(0, 5, 2, 17)
    weight, centers = normal(1, 2, 17), jnp.asarray(normal(2, 2, 5, 4), jnp.bfloat16)
    out = tpu_assign.dispatch(index, weight, centers)
    chex.assert_trees_all_equal(out, assign.dispatch(index, weight, centers))
    chex.assert_type(
        tpu_assign.dispatch_gradients(index, weight, centers, out), [jnp.float32, jnp.bfloat16]
    )


def test_what_is_no_number_stays_in_its_image():
    index, weight, centers = integers(0, 5, 3, 17), normal(1, 3, 17), normal(2, 3, 5, 4)
    clean = tpu_assign.dispatch(index, weight, centers)
    centers[1] = np.nan
    out = tpu_assign.dispatch(index, weight, centers)
    np.testing.assert_array_equal(out[::2], clean[::2])
