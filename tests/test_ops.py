"""The ops against slow NumPy versions, and the laws that clustering obeys."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cluenet_jax import ops
from cluenet_jax.ops import argmax, depthwise, pooling
from tests import reference


@pytest.fixture(autouse=True)
def strict_types():
    """No silent promotion of types in the ops. (Flax itself does not pass this.)"""
    with jax.numpy_dtype_promotion("strict"):
        yield


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (9, 16), (3, 2), (1, 1)])
@pytest.mark.parametrize("grid", [(4, 4), (1, 1), (3, 2)])
def test_adaptive_avg_pool_covers_the_cells_of_the_definition(size, grid):
    x = draw(0, 2, *size, 3)
    expected = reference.adaptive_avg_pool(x, grid)
    np.testing.assert_allclose(ops.adaptive_avg_pool(x, grid), expected, atol=1e-6)


def test_cosine_similarity():
    centres, points = draw(0, 4, 6), draw(1, 9, 6)
    expected = reference.cosine_similarity(centres, points)
    np.testing.assert_allclose(ops.cosine_similarity(centres, points), expected, atol=1e-6)


def test_cosine_similarity_of_a_zero_vector_is_zero_with_a_finite_gradient():
    points = jnp.zeros((2, 3))
    value, grad = jax.value_and_grad(lambda p: ops.cosine_similarity(jnp.ones((1, 3)), p).sum())(
        points
    )
    assert value == 0
    assert np.isfinite(grad).all()


def test_cosine_similarity_stays_float32_for_half_precision():
    x = jnp.ones((2, 3), jnp.bfloat16)
    chex.assert_type(ops.cosine_similarity(x, x), jnp.float32)


def test_aggregation_weights_sum_to_one_and_sharpen_as_the_temperature_falls():
    similarity = draw(0, 2, 3, 10).clip(-1, 1)
    warm, cold = (ops.aggregation_weights(similarity, t) for t in (2.0, 1e-4))
    np.testing.assert_allclose(warm.sum(-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(cold.argmax(-1), similarity.argmax(-1))
    assert (warm.max(-1) < cold.max(-1)).all()


def test_one_centre_of_equal_similarity_gives_the_mean():
    values = draw(0, 1, 12, 5)
    weights = ops.aggregation_weights(np.ones((1, 1, 12), np.float32), 0.5)
    np.testing.assert_allclose(ops.aggregate(weights, values)[0, 0], values[0].mean(0), atol=1e-6)


def test_permuting_points_permutes_the_assignment():
    scores, order = draw(0, 2, 5, 40), np.random.default_rng(1).permutation(40)
    index, weight = ops.hard_assign(scores)
    index2, weight2 = ops.hard_assign(scores[:, :, order])
    np.testing.assert_array_equal(index[:, order], index2)
    np.testing.assert_array_equal(weight[:, order], weight2)


def test_hard_assign_takes_the_first_of_equals():
    index, weight = ops.hard_assign(np.array([[0.1, 0.7], [0.9, 0.7], [0.9, 0.7]], np.float32))
    np.testing.assert_array_equal(index, [1, 0])
    np.testing.assert_allclose(weight, [0.9, 0.7])


def test_gradient_reaches_the_chosen_score_only():
    scores = jnp.asarray(draw(0, 4, 6))
    grad = jax.grad(lambda s: ops.hard_assign(s)[1].sum())(scores)
    np.testing.assert_array_equal(grad, jax.nn.one_hot(scores.argmax(0), 4, axis=0))


def test_dispatch_gives_each_point_its_centre():
    centres, scores = draw(0, 2, 3, 4), draw(1, 2, 3, 7)
    index, weight = ops.hard_assign(scores)
    out = ops.dispatch(index, weight, centres)
    for b in range(2):
        for n in range(7):
            m = scores[b, :, n].argmax()
            np.testing.assert_allclose(out[b, n], scores[b, m, n] * centres[b, m], rtol=1e-6)


def test_soft_dispatch_of_a_one_hot_score_is_hard_dispatch():
    centres, index = draw(0, 2, 3, 4), np.random.default_rng(1).integers(0, 3, (2, 7))
    scores = np.eye(3, dtype=np.float32)[index].transpose(0, 2, 1)
    hard = ops.dispatch(index, np.ones((2, 7), np.float32), centres)
    np.testing.assert_allclose(ops.soft_dispatch(scores, centres), hard, atol=1e-6)


def test_nearest_centre_is_the_most_similar_and_passes_no_gradient():
    centres, points = draw(0, 2, 6, 3), draw(1, 2, 20, 3)
    index = ops.nearest_centre(centres, points)
    for b in range(2):
        expected = reference.cosine_similarity(centres[b], points[b]).argmax(0)
        np.testing.assert_array_equal(index[b], expected)
    chex.assert_type(index, jnp.int32)


@pytest.mark.parametrize("entries", [1, 7, 40, 300, 10**6])
@pytest.mark.parametrize("shape", [(3, 12, 17), (4, 1, 5), (1, 30, 30), (2, 7, 1)])
def test_nearest_centres_in_blocks_are_the_same_to_the_last_index(shape, entries, monkeypatch):
    monkeypatch.setattr(pooling, "_TILE", 8)
    batch, count, points = shape
    # Multiples of a half: many similarities are exactly equal.
    a, b = np.round(draw(0, batch, count, 4)), np.round(draw(1, batch, points, 4))
    whole = np.einsum("bmc,bnc->bmn", a, b).argmax(axis=1)
    blocks = jax.jit(pooling.nearest_in_blocks, static_argnums=2)(a, b, entries)
    np.testing.assert_array_equal(blocks, whole)


@pytest.mark.parametrize("shape", [(3, 5), (2, 1, 4), (2, 3, 49, 31), (256, 7)])
def test_variants_of_argmax_agree(shape):
    scores = np.round(draw(0, *shape))
    expected = scores.argmax(axis=-2)
    best, rows = jax.jit(argmax.two_reductions)(scores)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(best, scores.max(axis=-2))
    np.testing.assert_array_equal(argmax.one_reduction(scores), expected)
    np.testing.assert_array_equal(argmax.argmax_rows(-np.inf * np.ones(shape)), 0)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gelu_and_its_gradient(dtype):
    x = jnp.asarray(np.linspace(-9, 9, 401), dtype)
    tolerance = 1e-6 if dtype == jnp.float32 else 2e-2
    exact = jax.nn.gelu(x.astype(jnp.float32), approximate=False)
    value, pull = jax.vjp(ops.gelu, x)
    chex.assert_type([value, pull(jnp.ones_like(x))[0]], dtype)
    np.testing.assert_allclose(value.astype(jnp.float32), exact, atol=tolerance, rtol=tolerance)
    slope = jax.vmap(jax.grad(lambda x: jax.nn.gelu(x, approximate=False)))(x.astype(jnp.float32))
    found = pull(jnp.ones_like(x))[0].astype(jnp.float32)
    np.testing.assert_allclose(found, slope, atol=2 * tolerance)


def test_a_centre_is_nearest_to_itself():
    points = draw(0, 2, 30, 8)
    np.testing.assert_array_equal(ops.nearest_centre(points, points), [np.arange(30)] * 2)


def test_segment_sums_partition_the_total():
    values, index = draw(0, 3, 50, 4), np.random.default_rng(1).integers(0, 9, (3, 50))
    sums = ops.segment_sum(values, index, 9)
    chex.assert_shape(sums, (3, 9, 4))
    np.testing.assert_allclose(sums.sum(1), values.sum(1), atol=1e-5)


def test_cluster_mean_counts_the_centre_as_a_member():
    values, centres = draw(0, 2, 20, 3), draw(1, 2, 5, 3)
    index = np.random.default_rng(2).integers(0, 4, (2, 20))  # cluster 4 stays empty
    out = ops.cluster_mean(values, centres, index)
    np.testing.assert_allclose(out, reference.cluster_mean(values, centres, index), atol=1e-6)
    np.testing.assert_allclose(out[:, 4], centres[:, 4], rtol=1e-6)


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 4), (2, 1)])
def test_depthwise_variants_agree_forward_and_backward(size):
    x, kernel, grad = draw(0, 3, *size, 5), draw(1, 3, 3, 5), draw(2, 3, *size, 5)
    expected = reference.depthwise_conv3x3(x, kernel)
    forward = (ops.depthwise_conv3x3, depthwise.conv_xla, depthwise.conv_shifted)
    for convolve in forward:
        np.testing.assert_allclose(convolve(x, kernel), expected, atol=1e-5)

    # Autodiff of XLA's convolution is the truth for the gradients.
    x_grad, kernel_grad = jax.vjp(depthwise.conv_xla, x, kernel)[1](grad)
    ours = jax.vjp(ops.depthwise_conv3x3, x, kernel)[1](grad)
    np.testing.assert_allclose(ours[0], x_grad, atol=1e-5)
    for variant in (
        ours[1],
        depthwise.kernel_grad_xla(x, grad),
        depthwise.kernel_grad_shifted(x, grad),
    ):
        np.testing.assert_allclose(variant, kernel_grad, atol=1e-4)


def test_depthwise_keeps_half_precision():
    x, kernel = jnp.ones((1, 4, 4, 2), jnp.bfloat16), jnp.ones((3, 3, 2), jnp.bfloat16)
    out, grads = jax.vjp(ops.depthwise_conv3x3, x, kernel)
    chex.assert_type([out, *grads(out)], jnp.bfloat16)
