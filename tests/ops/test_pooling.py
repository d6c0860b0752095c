"""Pooling against its slow twins, and the laws of nearest centers and cluster means."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cluenet_jax import ops
from cluenet_jax.ops import pooling
from tests.helpers import reference
from tests.ops.inputs import integers, normal


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (9, 16), (3, 2), (1, 1)])
@pytest.mark.parametrize("grid", [(4, 4), (1, 1), (3, 2)])
def test_adaptive_avg_pool_covers_the_cells_of_the_definition(size, grid):
    x = normal(0, 2, *size, 3)
    expected = reference.adaptive_avg_pool(x, grid)
    np.testing.assert_allclose(ops.adaptive_avg_pool(x, grid), expected, atol=1e-6)


def test_the_nearest_center_is_the_most_similar():
    centers, points = normal(0, 2, 6, 3), normal(1, 2, 20, 3)
    index = pooling.nearest_center(centers, points)
    for b in range(2):
        expected = reference.cosine_similarity(centers[b], points[b]).argmax(0)
        np.testing.assert_array_equal(index[b], expected)
    chex.assert_type(index, jnp.int32)


def test_the_selected_form_equals_the_plain_one(backend):
    centers, points = normal(0, 2, 6, 3), normal(1, 2, 20, 3)
    index = ops.nearest_center(centers, points)
    chex.assert_trees_all_equal(index, pooling.nearest_center(centers, points))


def test_a_center_is_nearest_to_itself(backend):
    points = normal(0, 2, 30, 8)
    np.testing.assert_array_equal(ops.nearest_center(points, points), [np.arange(30)] * 2)


def test_no_gradient_passes_the_nearest_center(backend):
    centers, points = jnp.asarray(normal(0, 1, 6, 3)), jnp.asarray(normal(1, 1, 20, 3))

    def loss(centers, points):
        index = ops.nearest_center(centers, points)
        return jnp.sum(jnp.take_along_axis(centers, index[..., None], axis=1))

    grads = jax.grad(loss, (0, 1))(centers, points)
    counts = np.bincount(np.asarray(ops.nearest_center(centers, points))[0], minlength=6)
    np.testing.assert_array_equal(grads[0][0], np.repeat(counts[:, None], 3, axis=1))
    np.testing.assert_array_equal(grads[1], 0)


@pytest.mark.parametrize("counted", [True, False])
def test_cluster_mean_of_weighted_members(backend, counted):
    values, centers, index = normal(0, 2, 20, 3), normal(1, 2, 4, 3), integers(2, 4, 2, 20)
    weights = np.abs(normal(3, 2, 20))
    means = ops.cluster_mean(values, centers, index, weights, counted)
    for b in range(2):
        for m in range(4):
            member = index[b] == m
            total = centers[b, m] + (weights[b, member, None] * values[b, member]).sum(0)
            divisor = 1 + (member.sum() if counted else weights[b, member].sum())
            np.testing.assert_allclose(means[b, m], total / divisor, atol=1e-5)


def test_cluster_mean_counts_the_center_as_a_member():
    values, centers = normal(0, 2, 20, 3), normal(1, 2, 5, 3)
    index = integers(2, 4, 2, 20)  # Cluster 4 stays empty.
    out = ops.cluster_mean(values, centers, index)
    np.testing.assert_allclose(out, reference.cluster_mean(values, centers, index), atol=1e-6)
    np.testing.assert_allclose(out[:, 4], centers[:, 4], rtol=1e-6)
