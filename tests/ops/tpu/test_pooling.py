"""Pooling by constant matrices and nearest centers in blocks, against the plain form."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cluenet_jax.ops import pooling
from cluenet_jax.ops.tpu import pooling as tpu_pooling
from tests.ops.inputs import normal, signs


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (9, 16), (3, 2), (1, 1)])
@pytest.mark.parametrize("grid", [(4, 4), (1, 1), (3, 2)])
@pytest.mark.parametrize("max_entries", [1, 10**6])
def test_averages_and_their_gradient_equal_the_plain_ones(size, grid, max_entries):
    x, pool = normal(0, 2, *size, 3), tpu_pooling.adaptive_avg_pool
    expected, pull = jax.vjp(lambda x: pooling.adaptive_avg_pool(x, grid), x)
    ours, our_pull = jax.vjp(lambda x: pool(x, grid, max_entries=max_entries), x)
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    grad = normal(1, *expected.shape)
    chex.assert_trees_all_close(our_pull(grad), pull(grad), atol=1e-6)


def test_half_precision_is_averaged_in_float32():
    x, pool = jnp.asarray(normal(0, 2, 14, 14, 3), jnp.bfloat16), tpu_pooling.adaptive_avg_pool
    ours, pull = jax.vjp(lambda x: pool(x, (7, 7), max_entries=10**6), x)
    chex.assert_trees_all_equal(ours, pooling.adaptive_avg_pool(x, (7, 7)))
    chex.assert_type(pull(ours), jnp.bfloat16)


@pytest.mark.parametrize("block_entries", [1, 40, 100, 10**6])
@pytest.mark.parametrize("shape", [(3, 12, 17), (4, 1, 5), (1, 30, 30), (2, 7, 1)])
def test_blocks_give_the_same_to_the_last_index(shape, block_entries):
    batch, num_centers, num_points = shape
    nearest = jax.jit(functools.partial(tpu_pooling.nearest_center, block_entries=block_entries))
    # Signs: many similarities are exactly equal.
    for draw in (signs, normal):
        centers, points = draw(0, batch, num_centers, 4), draw(1, batch, num_points, 4)
        expected = pooling.nearest_center(centers, points)
        np.testing.assert_array_equal(nearest(centers, points), expected)


def test_what_is_no_number_stays_in_its_image():
    centers, points = normal(0, 3, 12, 4), normal(1, 3, 17, 4)
    nearest = functools.partial(tpu_pooling.nearest_center, block_entries=40)
    clean = nearest(centers, points)
    points[1] = np.nan
    index = np.asarray(nearest(centers, points))
    np.testing.assert_array_equal(index[::2], clean[::2])
    assert ((index >= 0) & (index < 12)).all()
