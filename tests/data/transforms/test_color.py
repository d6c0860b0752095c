"""Color jitter: the identity at strength zero, and pure colors stay pure."""

import numpy as np
from PIL import Image

from cluenet_jax.data.transforms import color_jitter
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
