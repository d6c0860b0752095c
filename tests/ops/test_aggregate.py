"""The laws of aggregation: a softmax over points, and a mean."""

import chex
import jax.numpy as jnp
import numpy as np

from cluenet_jax import ops
from tests.ops.inputs import normal


def test_weights_sum_to_one_and_sharpen_as_the_temperature_falls():
    similarity = normal(0, 2, 3, 10).clip(-1, 1)
    warm, cold = (ops.aggregation_weights(similarity, t) for t in (2.0, 1e-4))
    np.testing.assert_allclose(warm.sum(-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(cold.argmax(-1), similarity.argmax(-1))
    assert (warm.max(-1) < cold.max(-1)).all()


def test_one_center_of_equal_similarity_gives_the_mean(backend):
    points, values = np.ones((1, 12, 3), np.float32), normal(0, 1, 12, 5)
    found = ops.aggregate(points[:, :1], points, values, 0.5)
    np.testing.assert_allclose(found[0, 0], values[0].mean(0), atol=1e-6)


def test_weights_are_float32_and_sums_of_the_type_of_the_values(backend):
    x = jnp.ones((2, 4, 3), jnp.bfloat16)
    chex.assert_type(ops.aggregation_weights(ops.cosine_similarity(x, x), 1.0), jnp.float32)
    chex.assert_type(ops.aggregate(x, x, x, 1.0), jnp.bfloat16)
