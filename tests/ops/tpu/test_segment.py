"""Sums by one-hot products against the plain form, forward and backward."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cluenet_jax.ops import segment
from cluenet_jax.ops.tpu import segment as tpu_segment
from tests.ops.inputs import integers, normal

# A single channel is summed by a mask, not by a product.
SHAPES = [(3, 50, 4), (2, 7, 1), (1, 1, 3)]
PRODUCT = dict(max_entries=10**6)


@pytest.mark.parametrize("max_entries", [1, 10**6])
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_and_their_gradient_equal_the_plain_ones(shape, max_entries):
    values, index = normal(0, *shape), integers(1, 9, *shape[:2])
    expected, pull = jax.vjp(lambda v: segment.segment_sum(v, index, 9), values)
    sums = tpu_segment.segment_sum(values, index, 9, max_entries=max_entries)
    np.testing.assert_allclose(sums, expected, atol=1e-5)
    grad = normal(2, *expected.shape)
    gradient = tpu_segment.gradient(grad, index, jnp.float32, max_entries=max_entries)
    np.testing.assert_array_equal(gradient, pull(grad)[0])
    np.testing.assert_array_equal(segment.gradient(grad, index, jnp.float32), pull(grad)[0])


def test_half_precision_is_summed_in_float32():
    # A sum of ones in bfloat16 would stop at 256.
    values, index = jnp.ones((1, 1000, 2), jnp.bfloat16), jnp.zeros((1, 1000), jnp.int32)
    sums = tpu_segment.segment_sum(values, index, 2, **PRODUCT)
    chex.assert_type(sums, jnp.float32)
    np.testing.assert_array_equal(sums[0], [[1000, 1000], [0, 0]])
    gradient = tpu_segment.gradient(sums, index, jnp.bfloat16, **PRODUCT)
    chex.assert_type(gradient, jnp.bfloat16)


def test_what_is_no_number_stays_in_its_image():
    values, index = normal(0, 3, 50, 4), integers(1, 9, 3, 50)
    clean = tpu_segment.segment_sum(values, index, 9, **PRODUCT)
    values[1] = np.nan
    sums = tpu_segment.segment_sum(values, index, 9, **PRODUCT)
    np.testing.assert_array_equal(sums[::2], clean[::2])
