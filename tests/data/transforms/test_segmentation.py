"""Transforms of images with masks: the recorded sizes, one geometry for both, laws of the draws."""

import numpy as np
import pytest

from cluenet_jax.data import IGNORED
from cluenet_jax.data.transforms import (
    Geometry,
    Window,
    align_size,
    draw_geometry,
    fit_size,
    pad_bottom_right,
    resize_to_fit,
)
from tests.helpers.golden import DATA
from tests.helpers.images import smooth_image, stripes

ADE = dict(scale=(2048, 512), ratio=(0.5, 2.0), crop=(512, 512))


@pytest.fixture(scope="module")
def recorded():
    with np.load(DATA / "dense" / "resize_pictures.npz") as file:
        return dict(file)


def test_sizes_are_the_recorded_ones(recorded):
    sizes = [tuple(size) for size in recorded["sizes"].tolist()]
    fitted = [fit_size(size, (2048, 512)) for size in sizes]
    np.testing.assert_array_equal(fitted, recorded["ade_test"])
    aligned = [align_size(size, 32) for size in fitted]
    np.testing.assert_array_equal(aligned, recorded["ade_test_align32"])
    np.testing.assert_array_equal([fit_size(s, (1333, 800)) for s in sizes], recorded["coco"])
    for scale, expected in zip(recorded["ade_train_scale"], recorded["ade_train"], strict=True):
        np.testing.assert_array_equal([fit_size(s, tuple(scale)) for s in sizes], expected)


class Draws:
    """The recorded ratio, and always the first place."""

    def __init__(self, uniform):
        self._uniform = uniform

    def uniform(self, low, high):
        return low + (high - low) * self._uniform

    def integers(self, high):
        return 0

    def random(self):
        return 0.9


def test_the_ratio_multiplies_the_scale_as_recorded(recorded):
    draws = zip(recorded["ade_train_uniform"], recorded["ade_train"], strict=True)
    for uniform, expected in draws:
        for size, after in zip(recorded["sizes"], expected, strict=True):
            mask = np.zeros(size, np.uint8)
            geometry = draw_geometry(mask, Draws(uniform), **ADE)
            assert geometry.window.size == tuple(after) and not geometry.flip


def draw(mask, seed, **options):
    settings = dict(scale=(80, 60), ratio=(0.5, 2.0), crop=(32, 32), **options)
    return draw_geometry(mask, np.random.default_rng(seed), **settings)


@pytest.mark.parametrize("seed", range(20))
def test_image_and_mask_move_together(seed):
    """A mask as an image: after any geometry both show the same, up to the edges between."""
    mask = stripes(4, 30, 40)
    geometry = draw(mask, seed)
    image = np.repeat(mask[..., None] * 80, 3, axis=-1)
    moved = geometry.apply_image(image)[..., 0]
    labels = geometry.apply_mask(mask)
    window = geometry.window
    assert moved.shape == labels.shape == (window.height, window.width)
    assert window.height <= 32 and window.width <= 32
    assert window.top + window.height <= window.size[0]
    assert window.left + window.width <= window.size[1]
    # Nearest takes the pixel before, bilinear the middle: an edge may be half an old pixel off.
    assert (np.abs(moved / 80 - labels) < 0.51).mean() > 0.9
    direction = np.sign(np.diff(labels.astype(int), axis=1)).sum()
    assert direction == 0 or (direction < 0) == geometry.flip


def test_the_flip_is_a_mirror():
    pixels = np.asarray(smooth_image(0))
    window = Window.whole((30, 40))
    flipped = Geometry(window, flip=True).apply_image(pixels)
    np.testing.assert_array_equal(flipped, pixels[:, ::-1])
    np.testing.assert_array_equal(Geometry(window).apply_image(pixels), pixels)


def test_half_of_all_are_flipped_and_all_places_are_drawn():
    geometries = [draw(stripes(4), seed) for seed in range(400)]
    np.testing.assert_allclose(np.mean([g.flip for g in geometries]), 0.5, atol=0.08)
    for fraction in (0.0, 1.0):
        flips = {draw(stripes(4), seed, flip_prob=fraction).flip for seed in range(20)}
        assert flips == {bool(fraction)}
    heights = [g.window.size[0] for g in geometries]
    assert min(heights) < 35 and max(heights) > 110
    slack = [(g.window.top, g.window.size[0] - 32 - g.window.top) for g in geometries]
    assert min(top for top, _ in slack) == 0 and min(below for _, below in slack) <= 0


def test_the_same_generator_draws_the_same():
    assert draw(stripes(4), 3) == draw(stripes(4), 3) != draw(stripes(4), 4)


def test_crops_of_mixed_classes_are_preferred():
    """A mask whose right third is of another class, the rest of one or not counted."""
    rare = np.zeros((60, 80), np.uint8)
    rare[:, 52:] = 1
    ignored = np.where(rare == 0, IGNORED, 3).astype(np.uint8)

    def mixed_fraction(mask, **options):
        settings = dict(scale=(80, 60), ratio=(1, 1), crop=(20, 20), **options)
        counts = []
        for seed in range(200):
            geometry = draw_geometry(mask, np.random.default_rng(seed), **settings)
            labels = np.bincount(geometry.apply_mask(mask).ravel(), minlength=256)[:IGNORED]
            counts.append(labels.max() < 0.75 * labels.sum())
        return np.mean(counts)

    plain, preferred = mixed_fraction(rare, max_class_fraction=1), mixed_fraction(rare)
    assert plain < 0.25 and preferred > 0.75
    # What is ignored is no second class: nothing is accepted, and the eleventh draw is taken.
    assert mixed_fraction(ignored) == 0


def test_an_eleventh_place_is_taken_unchecked():
    calls = []

    class Counting(Draws):
        def integers(self, high):
            calls.append(high)
            return 0

    draw_geometry(np.full((600, 700), IGNORED, np.uint8), Counting(0.5), **ADE)
    assert len(calls) == 2 * 11


def test_evaluation_resizes_to_fit_and_aligns():
    pixels = np.asarray(smooth_image(0, 45, 30))
    assert resize_to_fit(pixels, (80, 40)).shape == (40, 60, 3)
    aligned = resize_to_fit(pixels, (80, 40), 32)
    assert aligned.shape == (64, 64, 3)
    np.testing.assert_array_equal(resize_to_fit(pixels, (45, 30)), pixels)
    assert np.abs(aligned.mean() - pixels.mean()) < 2


def test_padding_is_at_the_bottom_and_right():
    pixels, mask = np.asarray(smooth_image(0, 20, 10)), stripes(3, 10, 20)
    image, labels = pad_bottom_right(pixels, mask, (16, 24), (1, 2, 3))
    np.testing.assert_array_equal(image[:10, :20], pixels)
    np.testing.assert_array_equal(labels[:10, :20], mask)
    assert (labels[10:] == IGNORED).all() and (labels[:, 20:] == IGNORED).all()
    assert (image[10:] == (1, 2, 3)).all() and (image[:, 20:] == (1, 2, 3)).all()
    same = pad_bottom_right(pixels, mask, (10, 20), (0, 0, 0))
    np.testing.assert_array_equal(same[0], pixels)
    assert same[0].flags.writeable and same[1].flags.writeable
