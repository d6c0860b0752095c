"""Aggregation that computes its weights again against the plain form, forward and backward."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cluenet_jax.ops.aggregate import aggregate
from cluenet_jax.ops.tpu.aggregate import aggregate as tpu_aggregate
from tests.ops.inputs import normal

# Leading axes, centers, points, and channels of points and of values.
SHAPES = [((2, 3), 5, 17, 4, 4), ((1,), 1, 6, 3, 2), ((), 4, 1, 1, 7)]


def inputs(leading, centers, points, width, depth):
    return (
        normal(0, *leading, centers, width),
        normal(1, *leading, points, width),
        normal(2, *leading, points, depth),
    )


@pytest.mark.parametrize("temperature", [2.13, 0.05])
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_and_all_gradients_equal_the_plain_ones(shape, temperature):
    arguments = (*inputs(*shape), jnp.float32(temperature))
    expected, plain_pull = jax.vjp(aggregate, *arguments)
    found, pull = jax.vjp(tpu_aggregate, *arguments)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)
    grad = normal(3, *expected.shape)
    chex.assert_trees_all_close(pull(grad), plain_pull(grad), rtol=2e-4, atol=2e-5 / temperature)


def test_the_sharpest_temperature_overflows_nothing():
    arguments = (*inputs((2,), 5, 40, 4, 4), jnp.float32(1e-4))
    found, pull = jax.vjp(tpu_aggregate, *arguments)
    np.testing.assert_allclose(found, aggregate(*arguments), atol=1e-3)
    chex.assert_tree_all_finite(pull(found))


def test_points_of_no_length_have_the_plain_gradients():
    centers, points, values = inputs((2,), 5, 17, 4, 4)
    points[:, 3] = centers[:, 2] = 0
    arguments = (centers, points, values, jnp.float32(0.5))
    expected, plain_pull = jax.vjp(aggregate, *arguments)
    found, pull = jax.vjp(tpu_aggregate, *arguments)
    for ours, theirs in zip(pull(expected), plain_pull(expected), strict=True):
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(ours / scale, theirs / scale, atol=1e-5)


def test_half_precision_keeps_types_and_comes_close():
    exact = (*inputs((2, 3), 5, 40, 8, 8), jnp.float32(0.3))
    half = (*(x.astype(jnp.bfloat16) for x in exact[:3]), exact[3])
    expected, plain_pull = jax.vjp(aggregate, *half)
    found, pull = jax.vjp(tpu_aggregate, *half)
    chex.assert_trees_all_equal_dtypes((found, pull(found)), (expected, plain_pull(expected)))
    np.testing.assert_allclose(*(x.astype(np.float32) for x in (found, expected)), atol=2e-2)
    for ours, theirs in zip(pull(expected), plain_pull(expected), strict=True):
        ours, theirs = ours.astype(np.float32), theirs.astype(np.float32)
        np.testing.assert_allclose(ours, theirs, atol=0.02 * np.abs(theirs).max())


def test_what_is_no_number_stays_in_its_image():
    centers, points, values = inputs((3,), 5, 17, 4, 4)
    clean = tpu_aggregate(centers, points, values, jnp.float32(1))
    points[1] = np.nan
    found = tpu_aggregate(centers, points, values, jnp.float32(1))
    np.testing.assert_array_equal(found[::2], clean[::2])
