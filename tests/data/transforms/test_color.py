"""Color jitter: the identity at strength zero, and pure colors stay pure."""

import numpy as np
from PIL import Image

from cluenet_jax.data.transforms import color, color_jitter, photometric_distortion
from tests.helpers.images import smooth_image


def test_color_jitter_of_zero_changes_nothing():
    image = smooth_image(1)
    same = color_jitter(image, np.random.default_rng(0), 0, 0, 0, 0)
    np.testing.assert_array_equal(np.asarray(same), np.asarray(image))


def test_the_hue_reaches_the_whole_circle():
    red = Image.new("RGB", (2, 2), (255, 0, 0))
    hues = set()
    for seed in range(40):
        rotated = color_jitter(red, np.random.default_rng(seed), 0, 0, 0, 0.5)
        value = np.asarray(rotated)[0, 0]
        assert value.max() == 255 and value.min() == 0  # Still a pure color.
        hues.add(int(value.argmax()))
    assert hues == {0, 1, 2}


class Draws:
    """A generator whose draws are given: the coins first, in the order they are asked for."""

    def __init__(self, coins, uniform=(), integer=0):
        self.coins, self.values, self.integer = iter(coins), iter(uniform), integer

    def random(self):
        return next(self.coins)

    def uniform(self, low, high):
        return low + next(self.values) * (high - low)

    def integers(self, low, high):
        assert (low, high) == (-18, 18)
        return self.integer


# Brightness, contrast, contrast first, saturation, hue.
NO, YES = 0.9, 0.1
PIXELS = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)


def test_each_distortion_is_left_out_half_of_the_time():
    same = photometric_distortion(PIXELS, Draws([NO] * 5))
    np.testing.assert_array_equal(same, PIXELS)
    rng = np.random.default_rng(0)
    unchanged = [(photometric_distortion(PIXELS, rng) == PIXELS).all() for _ in range(2000)]
    # Neither brightness nor contrast; saturation and hue leave gray as it is.
    np.testing.assert_allclose(np.mean(unchanged), 1 / 4, atol=0.04)


def test_brightness_and_contrast_are_clipped_and_rounded_down():
    brighter = photometric_distortion(PIXELS, Draws([YES, NO, NO, NO, NO], [1]))
    np.testing.assert_array_equal(brighter, np.minimum(PIXELS.astype(int) + 32, 255))
    for first in (YES, NO):
        steeper = photometric_distortion(PIXELS, Draws([NO, YES, first, NO, NO], [1]))
        np.testing.assert_array_equal(steeper, np.minimum(PIXELS.astype(int) * 3 // 2, 255))
        assert steeper.dtype == np.uint8


def test_saturation_and_hue_of_known_colors():
    red = np.full((2, 2, 3), (200, 0, 0), np.uint8)
    pale = color.shift_hue(red, 0.5, 0)
    np.testing.assert_allclose(pale[0, 0], (200, 100, 100), atol=1)
    for turn, expected in ((1 / 3, (0, 200, 0)), (-1 / 3, (0, 0, 200)), (1 / 6, (200, 200, 0))):
        np.testing.assert_allclose(color.shift_hue(red, 1, turn)[0, 0], expected, atol=6)
    # 18 of OpenCV's half degrees: a tenth of the circle.
    turned = photometric_distortion(red, Draws([NO] * 4 + [YES], integer=-18))
    np.testing.assert_array_equal(turned, color.shift_hue(red, 1, -0.1))
    np.testing.assert_allclose(turned[0, 0], (200, 0, 120), atol=6)


def test_the_distortion_is_a_function_of_the_draws():
    image = np.asarray(smooth_image(3))
    first, second = (photometric_distortion(image, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == image.shape and (first != image).any()
