"""Resizing and cropping: the area that is taken."""

import numpy as np
from PIL import Image

from cluenet_jax.data.transforms import random_resized_crop, resize, resize_and_center_crop
from tests.helpers.images import smooth_image


def test_random_resized_crop_covers_the_wanted_area():
    # Columns hold their own number, so the crop can be read off the result.
    ramp = np.repeat(np.arange(100, dtype=np.uint8)[None], 100, 0)
    image = Image.fromarray(np.stack([ramp, ramp.T, ramp], -1))
    rng, areas = np.random.default_rng(0), []
    for _ in range(200):
        out = np.asarray(random_resized_crop(image, 50, rng, (0.2, 0.5))).astype(float)
        assert out.shape == (50, 50, 3)
        width = (out[25, -5, 0] - out[25, 4, 0]) * 50 / 41
        height = (out[-5, 25, 1] - out[4, 25, 1]) * 50 / 41
        areas.append(width * height / 10_000)
    assert 0.17 < min(areas) and max(areas) < 0.54
    assert max(areas) - min(areas) > 0.2


def test_random_resized_crop_of_a_ribbon_takes_its_middle():
    image = smooth_image(0, 200, 2)
    out = random_resized_crop(image, 8, np.random.default_rng(0), (0.9, 1.0))
    assert out.size == (8, 8)


def test_center_crop_takes_the_middle_of_the_resized_image():
    image = smooth_image(2, 64, 32)
    out = resize_and_center_crop(image, 32, 16, "lanczos")
    np.testing.assert_array_equal(np.asarray(out), np.asarray(image)[8:24, 24:40])


def test_an_image_of_the_right_size_is_not_resized():
    image = smooth_image(2, 16, 16)
    assert resize(image, 16, "bicubic") is image
    assert resize(image, 8, "nearest").size == (8, 8)
