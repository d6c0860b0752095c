"""Resampling: equal to OpenCV in recorded cases, and windows of what is resized."""

import re

import numpy as np
import pytest

from cluenet_jax.data.transforms import Window, resample_image, resample_mask
from tests.helpers.golden import DATA

RECORDED = DATA / "dense" / "resize_pictures.npz"


@pytest.fixture(scope="module")
def recorded():
    with np.load(RECORDED) as file:
        return dict(file)


def sizes() -> list[tuple[int, int]]:
    with np.load(RECORDED) as file:
        matches = [re.fullmatch(r"label_(\d+)x(\d+)", name) for name in file]
    return [(int(match[1]), int(match[2])) for match in matches if match]


@pytest.mark.parametrize("size", sizes())
def test_every_pixel_is_as_opencv_has_it(recorded, size):
    name = "x".join(map(str, size))
    window = Window.whole(size)
    image = resample_image(recorded["picture"], window)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, recorded[f"picture_{name}"])
    np.testing.assert_array_equal(
        resample_mask(recorded["label"], window), recorded[f"label_{name}"]
    )


@pytest.mark.parametrize("seed", range(20))
def test_a_window_is_a_part_of_the_whole(seed):
    rng = np.random.default_rng(seed)
    height, width, new_height, new_width = rng.integers(1, 60, 4).tolist()
    top, left = int(rng.integers(new_height)), int(rng.integers(new_width))
    bottom, right = int(rng.integers(top, new_height)) + 1, int(rng.integers(left, new_width)) + 1
    window = Window((new_height, new_width), top, left, bottom - top, right - left)
    whole = Window.whole(window.size)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    for resample, array in ((resample_image, pixels), (resample_mask, pixels[..., 0])):
        np.testing.assert_array_equal(
            resample(array, window), resample(array, whole)[top:bottom, left:right]
        )


@pytest.mark.parametrize("seed", range(10))
def test_bilinear_values_are_those_of_the_formula(seed):
    rng = np.random.default_rng(seed)
    height, width, new_height, new_width = rng.integers(1, 40, 4).tolist()
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)

    def matrix(before: int, after: int) -> np.ndarray:
        place = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
        return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(before)))

    exact = np.einsum(
        "hy,wx,yxc->hwc", matrix(height, new_height), matrix(width, new_width), pixels.astype(float)
    )
    ours = resample_image(pixels, Window.whole((new_height, new_width)))
    # Weights of 1/2048 and dropped fractions.
    assert np.abs(ours - exact).max() < 1.01
    assert np.abs((ours - exact).mean()) < 0.3


def test_a_constant_stays_constant():
    pixels = np.full((7, 5, 3), (0, 128, 255), np.uint8)
    for size in ((14, 10), (3, 2), (7, 11), (1, 1)):
        assert (resample_image(pixels, Window.whole(size)) == pixels[0, 0]).all()
