"""Deletion and insertion curves, Grad-CAM and the rivals against closed forms."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cluenet_jax import explain
from cluenet_jax.explain import faithfulness
from cluenet_jax.models import Model
from tests.helpers.models import random_images, random_variables, run, tiny_cluenet, tiny_clustr


class Corner(nn.Module):
    """Class 1 is as likely as the upper left quarter is bright."""

    @nn.compact
    def __call__(self, images):
        rows, columns = images.shape[1] // 2, images.shape[2] // 2
        light = 4 * images[:, :rows, :columns].mean(axis=(1, 2, 3))
        return jnp.stack([jnp.zeros_like(light), light], axis=-1)


def test_the_curves_reward_the_region_that_matters():
    images = np.full((2, 8, 8, 3), -1.0, np.float32)
    images[:, :4, :4] = 1.0
    quarters = np.broadcast_to(faithfulness.rectangles(8, 8, 4), (2, 8, 8))
    score, targets = explain.class_probability(Corner()), jnp.array([1, 1])
    scores = np.asarray(explain.importance(score, {}, images, quarters, targets).score)
    assert (scores.argmax(axis=1) == 0).all()
    best = faithfulness.rank_pixels(quarters, scores)
    areas = {}
    for name, ranks in {"best": best, "worst": 3 - best}.items():
        for baseline in faithfulness.BASELINES:
            fraction, deletion, insertion = explain.deletion_insertion(
                score, {}, images, ranks, targets, 4, baseline
            )
            np.testing.assert_allclose(fraction[0], [0, 0.25, 0.5, 0.75, 1])
            whole = jax.nn.sigmoid(4.0)
            np.testing.assert_allclose(deletion[:, 0], whole, rtol=1e-5)
            np.testing.assert_allclose(insertion[:, -1], whole, rtol=1e-5)
            np.testing.assert_allclose(deletion[:, -1], insertion[:, 0], rtol=1e-5)
            areas[name, baseline] = (
                faithfulness.area(fraction, deletion)[0],
                faithfulness.area(fraction, insertion)[0],
            )
    for baseline in faithfulness.BASELINES:
        assert areas["best", baseline][0] < areas["worst", baseline][0] - 0.1
        assert areas["best", baseline][1] > areas["worst", baseline][1] + 0.1


def logits_of_last_level(params, level):
    """What follows the last stage: CLUENet has a norm there, ClusTR's level has passed its own."""
    if "norm" in params:
        mean = level.mean(axis=-1, keepdims=True)
        variance = ((level - mean) ** 2).mean(axis=-1, keepdims=True)
        level = (level - mean) / jnp.sqrt(variance + 1e-5)
        level = level * params["norm"]["scale"] + params["norm"]["bias"]
    return level.mean(axis=(1, 2)) @ params["linear"]["kernel"] + params["linear"]["bias"]


@pytest.mark.parametrize("model", [tiny_cluenet(), tiny_clustr()], ids=["cluenet", "clustr"])
def test_grad_cam_is_the_gradient_of_what_follows_the_last_stage(model):
    images = random_images(2, 32, 32, 3)
    variables = random_variables(model, images)
    level = explain.compute_maps(model, variables, images).features
    head = variables["params"]["head"]
    logits = run(model, variables, images)
    chex.assert_trees_all_close(logits_of_last_level(head, level), logits, rtol=1e-5, atol=1e-5)
    cams = []
    for target in (0, 1):
        cam = explain.grad_cam(model, variables, images, jnp.array([target, target]))
        gradient = jax.grad(lambda x, t=target: logits_of_last_level(head, x)[:, t].sum())(level)
        weights = gradient.mean(axis=(1, 2), keepdims=True)
        small = np.maximum((weights * level).sum(axis=-1), 0)
        expected = jax.image.resize(small, images.shape[:3], "bilinear")
        np.testing.assert_allclose(cam, expected, rtol=1e-4, atol=1e-5)
        assert cam.shape == images.shape[:3] and float(cam.min()) >= 0
        cams.append(cam)
    assert not np.allclose(*cams), "it depends on the target"


def evaluate(model, variables, batches, **options):
    score, best_targets = explain.class_probability(model), explain.predicted_class(model)
    return explain.evaluate_explanations(model, score, best_targets, variables, batches, **options)


def test_every_image_is_counted_and_the_numbers_add_up():
    model, images = tiny_cluenet(), random_images(4, 16, 16, 3)
    variables = random_variables(model, images)
    batches = [images[:2], images[2:]]
    scores = evaluate(model, variables, batches, num_regions=4)
    again = evaluate(model, variables, batches, num_regions=4)
    assert scores.num_images == 4 and len(scores.areas) == 20
    chex.assert_trees_all_equal(scores.areas, again.areas)
    report = scores.to_json()["methods"]
    own = report["grid"]["deletion_mean"]
    np.testing.assert_allclose(own["mean"], scores.areas["grid", "deletion", "mean"].mean())
    assert report["decision"]["insertion_blur"]["lead"] == 0
    ahead = scores.areas["grid", "deletion", "mean"] - scores.areas["decision", "deletion", "mean"]
    np.testing.assert_allclose(own["lead"], ahead.mean())
    assert "Grad-CAM" in scores.to_text()
    with pytest.raises(ValueError, match="no images"):
        evaluate(model, variables, [])


class PerPixel(nn.Module):
    """A head whose output is not one row of logits per image."""

    @nn.compact
    def __call__(self, levels, train=False):
        return nn.Dense(3)(levels[0])


def test_without_logits_grad_cam_takes_no_part():
    model, images = Model(tiny_cluenet().backbone, PerPixel()), random_images(2, 16, 16, 3)
    variables = random_variables(model, images)

    def score(variables, images, targets):
        means = jax.nn.softmax(model.apply(variables, images)).mean(axis=(1, 2))
        return jnp.take_along_axis(means, targets[:, None], axis=1)[:, 0]

    def best_targets(variables, images):
        return model.apply(variables, images).mean(axis=(1, 2)).argmax(axis=-1)

    scores = explain.evaluate_explanations(model, score, best_targets, variables, [images])
    assert list(scores.methods) == ["decision", "random_order", "random_regions", "grid"]
    assert list(scores.to_json()["methods"]) == list(scores.methods)
    assert "Grad-CAM" not in scores.to_text() and "of 2 images" in scores.to_text()


def test_all_rivals_take_the_same_fractions():
    rng = np.random.default_rng(0)
    sizes = np.array([200, 0, 500, 68])
    blob = faithfulness.split_by_value(faithfulness.smooth_noise(24, 32, rng), sizes)
    np.testing.assert_array_equal(np.bincount(blob.ravel(), minlength=4), sizes)
    assert max(ndimage.label(blob == k)[1] for k in range(4)) < 16, "blobs, not dust"
    grid = faithfulness.rectangles(7, 9, 6)
    assert len(np.unique(grid)) == 6 and np.bincount(grid.ravel()).min() >= 6
