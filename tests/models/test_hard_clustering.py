"""Hard clustering against its equations, point by point."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cluenet_jax.models.hard_clustering import HardAssignment, HardClustering
from tests.helpers.models import random_images, random_variables
from tests.helpers.reference import cosine


@pytest.mark.parametrize(
    ("weighted", "counted"), [(True, False), (True, True), (False, True)], ids=str
)
@pytest.mark.parametrize("scale", [2.0, -1.5])
def test_an_assignment_follows_the_equations(weighted, counted, scale):
    draws = random_images(4, 2, 12, 5)
    centers, points, value_centers, values = draws[0, :, :3], draws[1], draws[2, :, :3], draws[3]
    params = {"scale": jnp.float32(scale), "shift": jnp.float32(0.3)}
    out, index, weight = HardAssignment(weighted, counted).apply(
        {"params": params}, centers, points, value_centers, values
    )
    for b in range(2):
        total, divisor = value_centers[b].astype(float), np.ones(3)
        for n in range(12):
            cosines = np.array([cosine(center, points[b, n]) for center in centers[b]])
            scores = 1 / (1 + np.exp(-(0.3 + scale * cosines)))
            m = scores.argmax()
            assert index[b, n] == m
            np.testing.assert_allclose(weight[b, n], scores[m], rtol=1e-5)
            total[m] += (scores[m] if weighted else 1) * values[b, n]
            divisor[m] += 1 if counted else scores[m]
        expected = np.asarray(weight[b])[:, None] * (total / divisor[:, None])[np.asarray(index[b])]
        np.testing.assert_allclose(out[b], expected, atol=1e-5)


def test_a_fold_is_clustered_like_a_map_of_its_own():
    sizes = dict(num_heads=2, head_dim=4, center_grid=(2, 2), weighted=True, counted=False)
    x = random_images(1, 8, 12, 6)
    cut = HardClustering(folds=(2, 3), **sizes)
    whole = HardClustering(folds=(1, 1), **sizes)
    variables = random_variables_of(cut, x.reshape(1, 96, 6), (8, 12))
    out, clusters, _ = cut.apply(variables, x.reshape(1, 96, 6), (8, 12))
    part = x[:, 4:, 8:].reshape(1, 16, 6)
    expected, expected_clusters, _ = whole.apply(variables, part, (4, 4))
    ours = np.asarray(out).reshape(1, 8, 12, 6)[:, 4:, 8:].reshape(1, 16, 6)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    # The last of six folds, of four centers each.
    last = np.asarray(clusters).reshape(1, 2, 8, 12)[:, :, 4:, 8:].reshape(1, 2, 16)
    np.testing.assert_array_equal(last, np.asarray(expected_clusters) + 5 * 4)


def random_variables_of(mixer, x, grid):
    class OnGrid:
        def init(self, key, x):
            return mixer.init(key, x, grid)

    return random_variables(OnGrid(), x)


def test_initial_weights_are_those_of_pytorch_and_of_the_paper():
    mixer = HardClustering(2, 8, (2, 2), (1, 1), weighted=True, counted=False)
    params = mixer.init(jax.random.key(0), random_images(1, 16, 64), (4, 4))["params"]
    assert params["assignment"] == {"scale": 1.0, "shift": 0.0}
    for name, fan_in in (("similarity", 64), ("value", 64), ("out", 16)):
        for leaf in params[name].values():
            assert 0.8 * fan_in**-0.5 < jnp.abs(leaf).max() <= fan_in**-0.5, name
