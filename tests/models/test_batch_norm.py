"""BatchNorm: the laws of PyTorch's; its recorded values are in the tests of the heads."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from cluenet_jax.models.batch_norm import BatchNorm
from cluenet_jax.train.sharding import AXIS, make_mesh
from tests.helpers.models import random_images, random_variables

X = 3 * random_images(4, 5, 7, 6) + 2


@pytest.fixture(scope="module")
def variables():
    return random_variables(BatchNorm(), X)


def test_training_takes_the_statistics_of_the_batch_and_moves_the_running_ones(variables):
    y, changes = BatchNorm().apply(variables, X, train=True, mutable=["batch_stats"])
    flat = np.asarray(X, np.float64).reshape(-1, 6)
    params, before, after = (
        jax.tree.map(np.asarray, tree)
        for tree in (variables["params"], variables["batch_stats"], changes["batch_stats"])
    )
    normed = (X - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)
    np.testing.assert_allclose(y, normed * params["scale"] + params["bias"], atol=1e-5)
    np.testing.assert_allclose(after["mean"], 0.9 * before["mean"] + 0.1 * flat.mean(0), rtol=1e-5)
    unbiased = flat.var(0, ddof=1)
    np.testing.assert_allclose(after["var"], 0.9 * before["var"] + 0.1 * unbiased, rtol=1e-5)
    assert after["num_batches"] == before["num_batches"] + 1
    assert after["num_batches"].dtype == np.int32


def test_evaluation_takes_the_running_statistics_and_leaves_them(variables):
    y, changes = BatchNorm().apply(variables, X, mutable=["batch_stats"])
    chex.assert_trees_all_equal(changes["batch_stats"], variables["batch_stats"])
    alone = BatchNorm().apply(variables, X[:1])
    np.testing.assert_allclose(alone, y[:1], atol=1e-6)


def test_what_is_not_mutable_stays(variables):
    y = BatchNorm().apply(variables, X, train=True)
    expected, _ = BatchNorm().apply(variables, X, train=True, mutable=["batch_stats"])
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("train", [False, True])
def test_initialization_counts_no_batch(train):
    stats = BatchNorm().init(jax.random.key(0), X, train=train)["batch_stats"]
    expected = {"mean": np.zeros(6), "var": np.ones(6), "num_batches": 0}
    chex.assert_trees_all_equal(stats, jax.tree.map(jnp.asarray, expected))


def test_statistics_are_those_of_all_devices(variables):
    def train(variables, x):
        return BatchNorm().apply(variables, x, train=True, mutable=["batch_stats"])

    sharding = NamedSharding(make_mesh(), PartitionSpec(AXIS))
    split = jax.jit(train)(variables, jax.device_put(X, sharding))
    chex.assert_trees_all_close(split, train(variables, X), atol=1e-5)


def test_statistics_are_float32_whatever_the_type(variables):
    x = jnp.asarray(X, jnp.bfloat16)
    y, changes = BatchNorm(jnp.bfloat16).apply(variables, x, train=True, mutable=["batch_stats"])
    chex.assert_type(y, jnp.bfloat16)
    _, exact = BatchNorm().apply(
        variables, x.astype(jnp.float32), train=True, mutable=["batch_stats"]
    )
    chex.assert_trees_all_equal(changes, exact)


def test_one_value_has_no_variance(variables):
    with pytest.raises(ValueError, match=r"\(1, 1, 1, 6\) has one value per channel"):
        BatchNorm().apply(variables, X[:1, :1, :1], train=True)
    chex.assert_tree_all_finite(BatchNorm().apply(variables, X[:1, :1, :1]))
