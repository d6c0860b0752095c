"""Preprocessing: what models see of an image."""

import json

import chex
import jax.numpy as jnp
import numpy as np
from PIL import Image

from cluenet_jax.data import Preprocessing
from cluenet_jax.data.transforms import resize, resize_and_center_crop
from tests.helpers.images import smooth_image

PREPROCESSING = Preprocessing(16, 32, "lanczos", (0.5, 0.0, 1.0), (0.5, 1.0, 2.0))


def test_the_shorter_side_is_resized_and_the_center_cropped():
    image = smooth_image(2, 64, 48)
    expected = np.asarray(resize_and_center_crop(image, 32, 16, "lanczos"))
    pixels = PREPROCESSING(image)
    assert pixels.shape == PREPROCESSING.shape == (16, 16, 3) and pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, expected)


def test_without_a_crop_the_image_is_resized_to_the_square():
    image = smooth_image(2, 64, 48)
    preprocess = Preprocessing(16, 0, "bicubic", (0, 0, 0), (1, 1, 1))
    np.testing.assert_array_equal(preprocess(image), np.asarray(resize(image, 16, "bicubic")))
    assert preprocess(Image.new("L", (64, 48))).shape == (16, 16)


def test_normalize():
    out = PREPROCESSING.normalize(jnp.full((1, 1, 1, 3), 255, jnp.uint8))
    chex.assert_type(out, jnp.float32)
    np.testing.assert_allclose(out[0, 0, 0], [1, 1, 0])
    np.testing.assert_array_equal(PREPROCESSING.normalize(np.full(3, 255, np.uint8)), out[0, 0, 0])


def test_another_size_keeps_the_proportion_of_the_crop():
    other = PREPROCESSING.with_size(24)
    assert (other.image_size, other.resize) == (24, 48)
    assert other.with_size(16) == PREPROCESSING
    assert Preprocessing(16, 0, "bicubic", (0, 0, 0), (1, 1, 1)).with_size(32).resize == 0


def test_json_and_back():
    fields = json.loads(json.dumps(PREPROCESSING.to_json()))
    assert fields == PREPROCESSING.to_json()
    assert Preprocessing.from_json(fields) == PREPROCESSING
