"""Sums with a single index of images and clusters against the plain form, forward and backward."""

import jax.numpy as jnp
import numpy as np

from cluenet_jax.ops import segment
from cluenet_jax.ops.cpu import segment as cpu_segment
from tests.ops.inputs import integers, normal


def test_sums_and_their_gradient_equal_the_plain_ones():
    values, index = normal(0, 3, 50, 4), integers(1, 9, 3, 50)
    expected = segment.segment_sum(values, index, 9)
    np.testing.assert_allclose(cpu_segment.segment_sum(values, index, 9), expected, atol=1e-6)
    ours, plain = (form.gradient(expected, index, jnp.float32) for form in (cpu_segment, segment))
    np.testing.assert_array_equal(ours, plain)
