"""Cosine similarity against its slow twin, and where vectors are zero or short."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cluenet_jax import ops
from tests.helpers import reference
from tests.ops.inputs import normal


def test_cosine_similarity_equals_the_slow_twin():
    centers, points = normal(0, 4, 6), normal(1, 9, 6)
    expected = reference.cosine_similarity(centers, points)
    np.testing.assert_allclose(ops.cosine_similarity(centers, points), expected, atol=1e-6)


def test_a_zero_vector_has_similarity_zero_and_a_finite_gradient():
    points = jnp.zeros((2, 3))
    value, grad = jax.value_and_grad(lambda p: ops.cosine_similarity(jnp.ones((1, 3)), p).sum())(
        points
    )
    assert value == 0
    assert np.isfinite(grad).all()


def test_similarity_is_float32_for_half_precision():
    x = jnp.ones((2, 3), jnp.bfloat16)
    chex.assert_type(ops.cosine_similarity(x, x), jnp.float32)


def test_normalized_vectors_have_length_one_or_stay_zero():
    x = normal(0, 5, 7)
    x[2] = 0
    lengths = np.linalg.norm(ops.l2_normalize(x), axis=-1)
    np.testing.assert_allclose(lengths, [1, 1, 0, 1, 1], atol=1e-6)
