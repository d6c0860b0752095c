"""The loss of segmentation: the recorded cases, and gradients without ignored pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cluenet_jax import ops
from tests.helpers.golden import DATA


@pytest.fixture(scope="module")
def recorded():
    with np.load(DATA / "dense" / "seg_loss.npz") as file:
        return dict(file)


def mean(sums, counts):
    return sums.sum() / jnp.maximum(counts.sum(), 1)


@pytest.mark.parametrize(
    ("denominator", "name"), [("all", "loss"), ("labeled", "loss_avg_non_ignore")]
)
def test_the_recorded_losses(recorded, denominator, name):
    logits, labels = jnp.asarray(recorded["resized"]), jnp.asarray(recorded["labels"])
    for case, given in (("some", labels), ("none", jnp.full_like(labels, 255))):
        sums, counts = ops.segmentation_loss(logits, given, denominator=denominator)
        assert sums.shape == counts.shape == (2,) and sums.dtype == counts.dtype == jnp.float32
        np.testing.assert_allclose(mean(sums, counts), recorded[f"{case}/{name}"], rtol=1e-6)
    if denominator == "labeled":
        sums, counts = ops.segmentation_loss(logits, labels)
        np.testing.assert_allclose(mean(sums, counts), recorded["some/loss_torch"], rtol=1e-6)
        np.testing.assert_array_equal(counts, (np.asarray(labels) != 255).sum((1, 2)))


def test_each_image_has_its_own_sum():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((3, 4, 5, 6)).astype(np.float32)
    labels = rng.integers(6, size=(3, 4, 5)).astype(np.uint8)
    labels[1] = 255
    sums, counts = ops.segmentation_loss(jnp.asarray(logits), jnp.asarray(labels))
    exact = -np.log(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))
    own = np.take_along_axis(exact, np.minimum(labels, 5)[..., None], -1)[..., 0]
    np.testing.assert_allclose(sums, (own * (labels != 255)).sum((1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(counts, [20, 0, 20])
    half = ops.segmentation_loss(jnp.asarray(logits, jnp.bfloat16), jnp.asarray(labels))[0]
    assert half.dtype == jnp.float32


def test_weights_count_in_sums_and_counts(recorded):
    logits, labels = jnp.asarray(recorded["resized"]), jnp.asarray(recorded["labels"])
    num_classes = logits.shape[-1]
    doubled = ops.segmentation_loss(logits, labels, class_weights=(2.0,) * num_classes)
    plain = ops.segmentation_loss(logits, labels)
    for got, expected in zip(doubled, plain, strict=True):
        np.testing.assert_allclose(got, 2 * expected, rtol=1e-6)
    sums, counts = 0, 0
    for label in range(num_classes):
        own = jnp.where(labels == label, labels, 255)
        one = ops.segmentation_loss(logits, own)
        sums, counts = sums + (label + 1) * one[0], counts + (label + 1) * one[1]
    weights = range(1, num_classes + 1)
    weighed = ops.segmentation_loss(logits, labels, class_weights=list(weights))
    np.testing.assert_allclose(weighed, (sums, counts), rtol=1e-5)
    # Ignored pixels weigh 1 where they count.
    everything = ops.segmentation_loss(logits, labels, 255, "all", list(weights))[1]
    ignored = (np.asarray(labels) == 255).sum((1, 2))
    np.testing.assert_allclose(everything, np.asarray(counts) + ignored, rtol=1e-6)
    with pytest.raises(ValueError, match=f"2 class_weights for {num_classes} classes"):
        ops.segmentation_loss(logits, labels, class_weights=(1.0, 1.0))


def test_ignored_pixels_have_no_gradient(recorded):
    logits, labels = jnp.asarray(recorded["resized"]), jnp.asarray(recorded["labels"])

    def loss(logits, labels):
        return mean(*ops.segmentation_loss(logits, labels))

    grad = np.asarray(jax.grad(loss)(logits, labels))
    ignored = np.asarray(labels) == 255
    assert ignored.any() and not grad[ignored].any() and (grad[~ignored] != 0).all()
    nothing = jax.grad(loss)(logits, jnp.full_like(labels, 255))
    assert not np.asarray(nothing).any()


def test_other_denominators_are_refused():
    with pytest.raises(ValueError, match="denominator='valid' must be one of labeled, all"):
        ops.segmentation_loss(jnp.zeros((1, 1, 1, 2)), jnp.zeros((1, 1, 1)), denominator="valid")
