"""Clustering by density peaks, in all forms: recorded cases, the slow twin, laws."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cluenet_jax import ops
from cluenet_jax.ops import density_peaks
from tests.helpers import reference
from tests.helpers.golden import DATA
from tests.ops.inputs import normal


@pytest.fixture(params=["plain", "cpu", "default"])
def cluster(request):
    """The plain form, and the public function as CPUs and all others run it; compiled."""
    form = density_peaks.density_peak_clustering
    if request.param != "plain":
        request.getfixturevalue("select_backend")(request.param)
        form = ops.density_peak_clustering
    return functools.partial(compiled, form)


def compiled(form, points, *sizes, **options):
    return jax.jit(lambda points: form(points, *sizes, **options))(points)


@functools.cache
def slow_clusters(tokens: int, count: int) -> np.ndarray:
    images = normal(0, 2, tokens, 6)
    return np.array([reference.density_peak_clustering(image, count, 3) for image in images])


def test_clusters_equal_the_recorded_ones(cluster):
    with np.load(DATA / "dpc_knn.npz") as file:
        case = dict(file)
    for count, index in zip((8, 32), cluster(case["points"], (8, 32)), strict=True):
        np.testing.assert_array_equal(index, case[f"assignment_{count}"])
        chex.assert_type(index, jnp.int32)


# 448 tokens are searched in groups.
@pytest.mark.parametrize("tokens", [9, 50, 448])
def test_clusters_equal_the_slow_twin(tokens, cluster):
    clusters = cluster(normal(0, 2, tokens, 6), (1, 4, 9), 3)
    for count, index in zip((1, 4, 9), clusters, strict=True):
        np.testing.assert_array_equal(index, slow_clusters(tokens, count))


def test_peaks_are_compared_with_all_tokens(cluster):
    """Few neighbors leave many tokens without a denser one nearby."""
    clusters = cluster(normal(0, 2, 120, 6), (3, 40), 3)
    for count, index in zip((3, 40), clusters, strict=True):
        np.testing.assert_array_equal(index, slow_clusters(120, count))


def test_permuting_tokens_permutes_the_clusters(cluster):
    x, order = normal(0, 2, 50, 6), np.random.default_rng(1).permutation(50)
    (index,) = cluster(x, (6,))
    (permuted,) = cluster(x[:, order], (6,))
    # Clusters are numbered by the strength of their centers, so even the numbers stay.
    np.testing.assert_array_equal(index[:, order], permuted)


def test_every_cluster_has_its_center(cluster):
    x = np.zeros((1, 20, 3), np.float32)  # All tokens equal: only ties.
    (index,) = cluster(x, (5,))
    assert set(np.asarray(index)[0]) == set(range(5))
    np.testing.assert_array_equal(index[0, :5], range(5))


def test_images_are_clustered_apart(cluster):
    """What is not a number in one image leaves the clusters of the others."""
    x = normal(0, 3, 50, 6)
    (clean,) = cluster(x, (6,))
    x[1] = np.nan
    (index,) = cluster(x, (6,))
    np.testing.assert_array_equal(index[::2], clean[::2])
    assert ((index >= 0) & (index < 6)).all()


def test_noise_breaks_ties_only_if_asked_for(cluster):
    x = np.zeros((1, 20, 3), np.float32)
    keys = (None, None, jax.random.key(1))
    first, second, noisy = (cluster(x, (5,), noise_key=key)[0] for key in keys)
    np.testing.assert_array_equal(first, second)
    chex.assert_shape(noisy, (1, 20))
    assert (np.asarray(noisy) != np.asarray(first)).any()


@pytest.mark.parametrize("tokens", [60, 448])
def test_all_forms_agree_where_distances_and_densities_tie(tokens, select_backend):
    """Tokens of whole coordinates, many of them equal: ties go to the lower index."""
    x = np.round(normal(0, 2, tokens, 3))
    expected = compiled(density_peaks.density_peak_clustering, x, (4, 16))
    for backend in ("cpu", "default"):
        select_backend(backend)
        clusters = compiled(ops.density_peak_clustering, x, (4, 16))
        chex.assert_trees_all_equal(clusters, expected)


def test_gradients_reach_weights_and_tokens_but_not_the_clustering(cluster):
    x, weights = jnp.asarray(normal(0, 2, 50, 6)), jnp.ones((2, 50, 1)) + 0.1 * normal(1, 2, 50, 1)
    (index,) = cluster(x, (6,))

    def through(x, weights):
        (index,) = cluster(x, (6,))
        return (ops.merge_tokens(x, weights, index, 6) ** 2).sum()

    def fixed(x, weights):
        return (ops.merge_tokens(x, weights, index, 6) ** 2).sum()

    ours = jax.grad(through, (0, 1))(x, weights)
    chex.assert_trees_all_close(ours, jax.grad(fixed, (0, 1))(x, weights), rtol=1e-5)
    assert all(np.abs(g).max() > 0 for g in ours)


@pytest.mark.parametrize(
    ("counts", "num_neighbors", "message"),
    [
        ((51,), 5, "50 tokens cannot form"),
        ((0,), 5, "cannot form"),
        ((4,), 51, "50 tokens have no 51 neighbors"),
    ],
)
def test_too_few_tokens_are_an_error(counts, num_neighbors, message, cluster):
    with pytest.raises(ValueError, match=message):
        cluster(normal(0, 2, 50, 6), counts, num_neighbors)
