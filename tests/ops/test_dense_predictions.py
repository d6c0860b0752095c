"""Classes of pixels at each image's own size: against images that are resized one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cluenet_jax import ops
from cluenet_jax.ops.dense_predictions import bilinear_weights

SIZES = [(13, 21), (9, 8), (20, 30)]
CANVAS, SEEN = (24, 32), (16, 24)


def logits(seed: int, height: int = 5, width: int = 7) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), (3, height, width, 4)) * 3


def labels() -> np.ndarray:
    mask = np.random.default_rng(0).integers(0, 4, (3, *CANVAS), dtype=np.uint8)
    for image, (height, width) in zip(mask, SIZES, strict=True):
        image[height:], image[:, width:], image[0, :2] = 255, 255, 255
    return mask


@pytest.mark.parametrize(("size", "new_size"), [(5, 13), (7, 7), (9, 4), (1, 6)])
def test_weights_are_those_of_bilinear_resizing(size, new_size):
    x = np.random.default_rng(0).standard_normal((1, size, 1, 2)).astype(np.float32)
    weights = bilinear_weights(jnp.array([new_size]), new_size, size)[0]
    expected = ops.resize_bilinear(jnp.asarray(x), (new_size, 1))[0, :, 0]
    np.testing.assert_allclose(weights @ x[0, :, 0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("num_views", [1, 3])
@pytest.mark.parametrize("block_rows", [5, 8, 64])
def test_classes_and_losses_equal_those_of_images_one_by_one(num_views, block_rows):
    views = [ops.View(logits(i, 5 + i), (SEEN[0], SEEN[1] + i)) for i in range(num_views)]
    mask = labels()
    classes, losses = ops.dense_predictions(views, jnp.array(SIZES), CANVAS, mask, block_rows)
    for i, (height, width) in enumerate(SIZES):
        each = [
            ops.resize_bilinear(
                ops.resize_bilinear(view.logits[i : i + 1], view.size), (height, width)
            )[0]
            for view in views
        ]
        mean = sum(jax.nn.softmax(x) for x in each) / num_views
        np.testing.assert_array_equal(classes[i, :height, :width], mean.argmax(-1))
        own = mask[i, :height, :width]
        row, column = np.nonzero(own != 255)
        expected = -np.log(np.asarray(mean)[row, column, own[row, column]]).sum()
        np.testing.assert_allclose(losses[i], expected, rtol=1e-4)


def test_without_labels_there_is_no_loss():
    views = [ops.View(logits(0), SEEN)]
    classes, losses = ops.dense_predictions(views, jnp.array(SIZES), CANVAS)
    assert classes.shape == (3, *CANVAS) and not losses.any()
