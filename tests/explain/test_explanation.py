"""The explanation of one image agrees with the functions of a batch."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from cluenet_jax import explain
from tests.helpers.models import random_images, random_variables, tiny_cluenet


@pytest.fixture(scope="module")
def explained():
    model, normalized = tiny_cluenet(), random_images(1, 64, 64, 3)
    variables = random_variables(model, normalized)
    explanation = explain.explain_image(
        model,
        explain.class_probability(model),
        variables,
        np.zeros((64, 64, 3), np.uint8),
        normalized[0],
        1,
        (3, 200, 100),
        target_name="dog",
        entries=[("cat", 0.7), ("dog", 0.3)],
        name="image",
        truth="dog",
    )
    return model, variables, normalized, explanation


def test_its_maps_are_those_of_the_batch(explained):
    model, variables, normalized, explanation = explained
    maps = explain.compute_maps(model, variables, normalized)
    for stage in range(4):
        np.testing.assert_array_equal(explanation.clusters[stage], maps.clusters[stage][0])
        np.testing.assert_array_equal(explanation.fields[stage], maps.fields[stage][0])
    shown = explain.to_image_grid(maps.fields[2], maps.clusters[2])[0]
    np.testing.assert_array_equal(explanation.stage_map(3, 1), shown[1])
    np.testing.assert_array_equal(explanation.stage_map(3, 7), shown[-1])


def test_its_importance_is_that_of_the_batch(explained):
    model, variables, normalized, explanation = explained
    regions = explain.decision_map(model, variables, normalized, 3)
    np.testing.assert_array_equal(explanation.decisions[3], regions[0])
    score = explain.class_probability(model)
    result = explain.importance(score, variables, normalized, regions, jnp.array([1]), 3)
    expected = np.stack([result.drop[0], result.keep[0]], axis=-1)
    np.testing.assert_allclose(explanation.importance[3], expected, atol=1e-5)
    np.testing.assert_allclose(explanation.scores(3), result.score[0], atol=1e-5)


def test_a_map_that_repeats_is_left_out(explained):
    """The last stage has 16 pixels: fewer regions than asked for, twice the same."""
    *_, explanation = explained
    assert list(explanation.decisions) == list(explanation.importance) == [3, 200]
    num_regions = explanation.decisions[200].max() + 1
    assert len(explanation.importance[200]) == num_regions <= 16


def test_a_mistake_is_known_only_with_the_truth(explained):
    *_, explanation = explained
    assert explanation.wrong
    assert not dataclasses.replace(explanation, truth="cat").wrong
    assert not dataclasses.replace(explanation, truth=None).wrong
    assert dataclasses.replace(explanation, entries=[]).wrong
