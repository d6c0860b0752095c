"""The laws of sums over clusters."""

import chex
import numpy as np

from cluenet_jax import ops
from tests.ops.inputs import integers, normal


def test_segment_sums_partition_the_total():
    values, index = normal(0, 3, 50, 4), integers(1, 9, 3, 50)
    sums = ops.segment_sum(values, index, 9)
    chex.assert_shape(sums, (3, 9, 4))
    np.testing.assert_allclose(sums.sum(1), values.sum(1), atol=1e-5)


def test_each_sum_is_of_its_own_image_and_cluster():
    values, index = normal(0, 3, 50, 4), integers(1, 9, 3, 50)
    sums = ops.segment_sum(values, index, 10)
    for b in range(3):
        for m in range(10):
            np.testing.assert_allclose(sums[b, m], values[b][index[b] == m].sum(0), atol=1e-5)
