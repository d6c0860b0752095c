"""The laws of merging tokens."""

import chex
import jax.numpy as jnp
import numpy as np

from cluenet_jax import ops
from tests.helpers.golden import DATA, relative_error
from tests.ops.inputs import integers, normal


def test_equal_weights_give_the_mean():
    x, index = normal(0, 2, 50, 6), integers(1, 7, 2, 50)
    merged = ops.merge_tokens(x, np.ones((2, 50, 1), np.float32), index, 7)
    for b in range(2):
        for m in range(7):
            np.testing.assert_allclose(merged[b, m], x[b][index[b] == m].mean(0), atol=1e-5)


def test_merged_tokens_equal_the_recorded_ones():
    with np.load(DATA / "dpc_knn.npz") as file:
        case = dict(file)
    for count in (8, 32):
        index = case[f"assignment_{count}"]
        merged = ops.merge_tokens(case["points"], case["weights"], index, count)
        assert relative_error(merged, case[f"merged_{count}"]) < 1e-6


def test_an_empty_cluster_is_zero_and_the_type_is_that_of_the_tokens():
    tokens, weights = jnp.ones((1, 4, 3), jnp.bfloat16), jnp.ones((1, 4, 1))
    merged = ops.merge_tokens(tokens, weights, jnp.zeros((1, 4), jnp.int32), 2)
    chex.assert_type(merged, jnp.bfloat16)
    np.testing.assert_array_equal(merged[0].astype(jnp.float32), [[1, 1, 1], [0, 0, 0]])
