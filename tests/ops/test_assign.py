"""The laws of hard assignment and dispatch."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cluenet_jax import ops
from cluenet_jax.ops import assign
from tests.ops.inputs import integers, normal


@pytest.fixture(params=[assign.hard_assign, ops.hard_assign], ids=["plain", "public"])
def hard_assign(request):
    return request.param


def test_permuting_points_permutes_the_assignment(hard_assign):
    scores, order = normal(0, 2, 5, 40), np.random.default_rng(1).permutation(40)
    index, weight = hard_assign(scores)
    permuted_index, permuted_weight = hard_assign(scores[:, :, order])
    np.testing.assert_array_equal(index[:, order], permuted_index)
    np.testing.assert_array_equal(weight[:, order], permuted_weight)


def test_the_first_of_equals_is_taken(hard_assign):
    index, weight = hard_assign(np.array([[0.1, 0.7], [0.9, 0.7], [0.9, 0.7]], np.float32))
    np.testing.assert_array_equal(index, [1, 0])
    np.testing.assert_array_equal(weight, np.float32([0.9, 0.7]))
    chex.assert_type([index, weight], [jnp.int32, jnp.float32])


def test_gradient_reaches_the_chosen_score_only(hard_assign):
    scores = jnp.asarray(normal(0, 4, 6))
    grad = jax.grad(lambda s: hard_assign(s)[1].sum())(scores)
    np.testing.assert_array_equal(grad, jax.nn.one_hot(scores.argmax(0), 4, axis=0))


def test_scores_that_are_no_numbers_still_give_a_center(hard_assign):
    index, _ = hard_assign(np.full((3, 4), np.nan, np.float32))
    assert ((index >= 0) & (index < 3)).all()


def test_dispatch_gives_each_point_its_center():
    centers, scores = normal(0, 2, 3, 4), normal(1, 2, 3, 7)
    index, weight = ops.hard_assign(scores)
    out = ops.dispatch(index, weight, centers)
    for b in range(2):
        for n in range(7):
            m = scores[b, :, n].argmax()
            np.testing.assert_allclose(out[b, n], scores[b, m, n] * centers[b, m], rtol=1e-6)


def test_soft_dispatch_of_a_one_hot_score_is_hard_dispatch():
    centers, index = normal(0, 2, 3, 4), integers(1, 3, 2, 7)
    scores = np.eye(3, dtype=np.float32)[index].transpose(0, 2, 1)
    hard = ops.dispatch(index, np.ones((2, 7), np.float32), centers)
    np.testing.assert_allclose(ops.soft_dispatch(scores, centers), hard, atol=1e-6)
