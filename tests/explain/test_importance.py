"""Importance against closed forms."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cluenet_jax import explain
from cluenet_jax.explain.importance import blur
from tests.helpers.models import random_images, random_variables, run, tiny_cluenet


def probabilities(model, variables, images):
    return np.asarray(jax.nn.softmax(run(model, variables, images)))


def test_importance_of_the_whole_image_has_a_closed_form():
    model, images = tiny_cluenet(), random_images(2, 16, 20, 3)
    variables = random_variables(model, images)
    targets, regions = jnp.array([2, 0]), np.zeros(images.shape[:3], int)
    score = explain.class_probability(model)
    result = explain.importance(score, variables, images, regions, targets)

    def p(images):
        return np.take_along_axis(
            probabilities(model, variables, images), np.asarray(targets)[:, None], 1
        )[:, 0]

    gray = np.broadcast_to(images.mean(axis=(1, 2), keepdims=True), images.shape)
    expected = 0.5 * (p(images) - p(gray)) + 0.5 * p(images)
    np.testing.assert_allclose(result.score[:, 0], expected, atol=1e-6)
    np.testing.assert_allclose(result.image_score, p(images), atol=1e-6)


def test_importance_fills_and_blurs_as_defined_and_image_by_image():
    model, images = tiny_cluenet(), random_images(3, 16, 16, 3)
    variables = random_variables(model, images)
    score = explain.class_probability(model)
    regions = np.random.default_rng(1).integers(0, 3, images.shape[:3])
    targets = explain.predicted_class(model)(variables, images)
    np.testing.assert_array_equal(targets, probabilities(model, variables, images).argmax(axis=-1))
    result = explain.importance(score, variables, images, regions, targets)
    np.testing.assert_array_equal(result.targets, targets)
    for b in range(3):
        own = slice(b, b + 1)
        alone = explain.importance(
            score, variables, images[own], regions[own], targets[own], num_regions=3
        )
        chex.assert_trees_all_close(alone, jax.tree.map(lambda a, i=own: a[i], result), atol=1e-5)
    inside = (regions[0] == 1)[..., None]
    dropped = np.where(inside, images[0].mean(axis=(0, 1)), images[0])
    kept = np.where(inside, images[0], slow_blur(images[0]))
    odds = probabilities(model, variables, np.stack([images[0], dropped, kept]))[:, targets[0]]
    np.testing.assert_allclose(result.drop[0, 1], odds[0] - odds[1], atol=1e-5)
    np.testing.assert_allclose(result.keep[0, 1], odds[2], atol=1e-5)


def slow_blur(image):
    kernel = np.exp(-(np.arange(-5, 6) ** 2) / 50)
    for axis in (0, 1):
        image = ndimage.correlate1d(image, kernel / kernel.sum(), axis, mode="mirror")
    return image


@pytest.mark.parametrize("size", [(7, 20), (3, 4), (1, 1)])
def test_blur_of_any_size(size):
    images = random_images(2, *size, 3)
    np.testing.assert_allclose(blur(jnp.asarray(images))[1], slow_blur(images[1]), atol=1e-5)


def test_a_models_score_keeps_its_identity():
    """A new function would be compiled again."""
    for make in (explain.class_probability, explain.predicted_class):
        assert make(tiny_cluenet()) is make(tiny_cluenet())
