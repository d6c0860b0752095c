"""RandAugment: every operation changes an image as strongly as its level says."""

import numpy as np
import pytest

from cluenet_jax.data.transforms import rand_augment
from cluenet_jax.data.transforms.rand_augment import OPERATIONS
from tests.helpers.images import smooth_image

FILL = (124, 116, 104)
IMAGE = smooth_image(1, 64, 64).point(lambda v: 40 + v // 2)
WITHOUT_LEVEL = ("autocontrast", "equalize", "invert", "posterize")


def test_there_are_fifteen_operations():
    assert len(OPERATIONS) == 15


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_level_is_the_strength(name):
    rng = np.random.default_rng(0)
    weak, strong = (
        np.asarray(OPERATIONS[name](IMAGE, level, rng, FILL)).astype(int) for level in (0, 1)
    )
    assert strong.shape == (64, 64, 3)
    assert (strong != np.asarray(IMAGE)).any()
    if name not in WITHOUT_LEVEL:
        np.testing.assert_allclose(weak, np.asarray(IMAGE), atol=1)


def test_a_quarter_of_the_images_stays_unchanged_and_the_seed_decides():
    changed = [
        np.asarray(rand_augment(IMAGE, np.random.default_rng(i), 9, 0.5, FILL)) for i in range(60)
    ]
    same = sum((c == np.asarray(IMAGE)).all() for c in changed)
    assert 5 < same < 30  # Both operations left out: a quarter.
    again = rand_augment(IMAGE, np.random.default_rng(3), 9, 0.5, FILL)
    np.testing.assert_array_equal(again, changed[3])
