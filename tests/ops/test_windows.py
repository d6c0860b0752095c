"""Sliding windows: laws, and a slow twin."""

import jax.numpy as jnp
import numpy as np
import pytest

from cluenet_jax import ops
from cluenet_jax.ops.resize import resize_bilinear

IMAGES = np.random.default_rng(0).standard_normal((2, 11, 14, 3)).astype(np.float32)


def test_a_function_of_single_pixels_stays_itself():
    out = ops.in_windows(lambda x: 2 * x, jnp.asarray(IMAGES), 5, 3)
    np.testing.assert_allclose(out, 2 * IMAGES, rtol=1e-6)


def test_a_window_as_large_as_the_image_is_the_function():
    out = ops.in_windows(lambda x: x[:, ::2, ::2] ** 2, jnp.asarray(IMAGES), 40, 7)
    expected = resize_bilinear(jnp.asarray(IMAGES[:, ::2, ::2] ** 2), (11, 14))
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("side", "step"), [(4, 4), (5, 2), (6, 6)])
def test_windows_are_averaged_where_they_overlap(side, step):
    """Against windows taken one by one; the last of an axis ends at the border."""

    def function(x):
        return x - x.mean((1, 2), keepdims=True)

    total, count = np.zeros_like(IMAGES), np.zeros((1, 11, 14, 1))
    for top in sorted({min(t, 11 - side) for t in range(0, 11 - side + step, step)}):
        for left in sorted({min(t, 14 - side) for t in range(0, 14 - side + step, step)}):
            window = np.s_[:, top : top + side, left : left + side]
            total[window] += function(IMAGES[window])
            count[window] += 1
    assert count.min() >= 1
    out = ops.in_windows(function, jnp.asarray(IMAGES), side, step)
    np.testing.assert_allclose(out, total / count, rtol=1e-5, atol=1e-6)
