"""Nearest centers in blocks against the plain form."""

import functools

import chex
import jax
import numpy as np
import pytest

from cluenet_jax.ops import assign, pooling
from cluenet_jax.ops.cpu import pooling as cpu_pooling
from tests.ops.inputs import normal, signs

SHAPES = [(3, 12, 17), (4, 1, 5), (1, 30, 30), (2, 7, 1)]


@pytest.mark.parametrize("block_entries", [1, 7, 40, 300, 10**6])
@pytest.mark.parametrize("shape", SHAPES)
def test_blocks_give_the_same_to_the_last_index(shape, block_entries):
    batch, num_centers, num_points = shape
    # Signs: many similarities are exactly equal.
    centers, points = signs(0, batch, num_centers, 4), signs(1, batch, num_points, 4)
    expected = np.einsum("bmc,bnc->bmn", centers, points).argmax(axis=1)
    np.testing.assert_array_equal(pooling.nearest_center(centers, points), expected)
    nearest = functools.partial(
        cpu_pooling.nearest_center, block_entries=block_entries, tile_points=8
    )
    np.testing.assert_array_equal(jax.jit(nearest)(centers, points), expected)


@pytest.mark.parametrize("argmax", [assign.argmax_rows, cpu_pooling.argmax_rows])
@pytest.mark.parametrize("block_entries", [40, 300, 10**6])
def test_blocks_equal_the_plain_form(block_entries, argmax):
    centers, points = normal(0, 3, 12, 5), normal(1, 3, 17, 5)
    nearest = functools.partial(
        cpu_pooling.nearest_center, block_entries=block_entries, tile_points=8, argmax=argmax
    )
    index = jax.jit(nearest)(centers, points)
    chex.assert_trees_all_equal(index, pooling.nearest_center(centers, points))
