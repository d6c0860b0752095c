"""Crops of posed objects: image and points move together; laws of the draws."""

import numpy as np
import pytest
from PIL import Image

from cluenet_jax.data.skeletons import COCO, WHOLE_BODY
from cluenet_jax.data.transforms import CropGeometry, crop_of_box, draw_crop

SIZE = (64, 48)


def dots(points, size=(120, 160)):
    """An image with a soft dot at each point, of its own channel."""
    rows, columns = np.indices(size)
    image = np.zeros((*size, 3), np.uint8)
    for channel, (x, y) in enumerate(points):
        distance = (columns - x) ** 2 + (rows - y) ** 2
        image[..., channel] = np.rint(255 * np.exp(-distance / 18))
    return image


def centroids(image):
    """x and y of the mean of each channel's light."""
    rows, columns = np.indices(image.shape[:2])
    weights = image.astype(float) / image.sum((0, 1))
    return np.stack(
        [(columns[..., None] * weights).sum((0, 1)), (rows[..., None] * weights).sum((0, 1))], 1
    )


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("degrees", [0, 30, -75])
def test_image_and_points_move_together(degrees, flip):
    points = np.array([[70.0, 60], [84, 55], [80, 72]])
    crop = CropGeometry((80 - flip, 60), 90, SIZE, degrees, flip)
    moved = centroids(crop.apply_image(dots(points)))
    np.testing.assert_allclose(moved, crop.apply_points(points, 160), atol=0.08)


def test_a_crop_of_whole_pixels_is_a_part_of_the_image():
    image = np.random.default_rng(0).integers(0, 256, (80, 60, 3), np.uint8)
    crop = CropGeometry((30, 40), 48, SIZE)
    np.testing.assert_array_equal(crop.apply_image(image), image[8:72, 6:54])
    mirrored = CropGeometry((30, 40), 48, SIZE, flip=True)
    np.testing.assert_array_equal(mirrored.apply_image(image), image[:, ::-1][8:72, 6:54])
    np.testing.assert_allclose(mirrored.apply_points([[0, 0]], 60), [[53, -8]])


def test_pillow_and_the_formula_agree_where_nothing_is_cut():
    """The bilinear mean of four pixels at the place that the crop says."""
    image = np.random.default_rng(1).integers(0, 256, (80, 60, 3), np.uint8)
    crop = CropGeometry((29.3, 41.7), 24, SIZE, 20)
    ours = crop.apply_image(image)
    turn = np.radians(20)
    back = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * crop.factor
    for row, column in ((10, 7), (32, 24), (50, 40)):
        x, y = back @ (np.array([column, row]) - [24, 32]) + crop.center
        left, top = int(x), int(y)
        a, b = x - left, y - top
        four = image[top : top + 2, left : left + 2].astype(float)
        expected = (1 - b) * ((1 - a) * four[0, 0] + a * four[0, 1]) + b * (
            (1 - a) * four[1, 0] + a * four[1, 1]
        )
        np.testing.assert_allclose(ours[row, column], expected, atol=1)


def test_boxes_are_widened_to_the_aspect_and_padded():
    tall, wide = crop_of_box((10, 20, 20, 100), SIZE, 1.25), crop_of_box((0, 0, 90, 10), SIZE, 1.0)
    assert tall.center == (15, 60) and tall.width == pytest.approx(80 * 48 / 64 * 1.25)
    assert wide.width == 90 and wide.area == pytest.approx(90 * 120)
    assert crop_of_box((5, 5, 5, 5), SIZE, 1.25).width == 1


def draw(seed, **options):
    still = dict.fromkeys(
        ("shift_prob", "flip_prob", "half_body_prob", "rotation_prob", "scale"), 0
    )
    points = np.zeros((17, 3), np.float32)
    points[:, :2] = np.random.default_rng(5).uniform((50, 30), (90, 100), (17, 2))
    points[:, 2] = 2
    upper = np.isin(np.arange(17), COCO.upper)
    crop = crop_of_box((40, 20, 100, 110), SIZE, 1.25)
    options = {**still, **options}
    drawn, moved = draw_crop(
        crop, points, 160, np.random.default_rng(seed), order=COCO.mirrored, upper=upper, **options
    )
    return crop, points, drawn, moved


def test_without_draws_nothing_changes():
    crop, points, drawn, moved = draw(0)
    assert drawn == crop
    np.testing.assert_allclose(moved[:, :2], crop.apply_points(points[:, :2], 160), rtol=1e-5)


def test_mirrored_keypoints_change_places():
    crop, points, drawn, moved = draw(0, flip_prob=1)
    assert drawn.flip and drawn.center[0] == 159 - crop.center[0]
    plain = crop.apply_points(points[:, :2], 160)
    np.testing.assert_allclose(moved[:, 0], 2 * 24 - plain[COCO.mirrored, 0], atol=1e-4)
    np.testing.assert_allclose(moved[:, 1], plain[COCO.mirrored, 1], atol=1e-4)


def test_the_draws_keep_their_bounds():
    scales, angles, shifts = [], [], []
    for seed in range(300):
        crop, _, drawn, _ = draw(seed, scale=0.5, rotation_prob=0.6, shift_prob=0.3)
        scales.append(drawn.width / crop.width)
        angles.append(drawn.degrees)
        shifts.append(
            np.abs(np.subtract(drawn.center, crop.center)) / (crop.width, crop.width * 4 / 3)
        )
    assert min(scales) == 0.5 and max(scales) == 1.5 and 0.95 < np.mean(scales) < 1.05
    assert np.abs(angles).max() <= 80 and 0.5 < np.mean(np.array(angles) != 0) < 0.7
    shifted = np.array(shifts)
    assert shifted.max() <= 0.16 and 0.2 < (shifted.max(1) > 0).mean() < 0.4


def test_half_bodies_are_around_one_half():
    upper = np.isin(np.arange(17), COCO.upper)
    halves = []
    for seed in range(200):
        _, points, drawn, _ = draw(seed, half_body_prob=1.0)
        means = [points[upper, :2].mean(0), points[~upper, :2].mean(0)]
        halves.append(int(np.argmin([np.abs(np.subtract(drawn.center, m)).max() for m in means])))
        assert np.abs(np.subtract(drawn.center, means[halves[-1]])).max() < 1e-3
    # A normal number below a half: 0.69.
    assert 0.6 < np.mean(np.array(halves) == 0) < 0.78
    crop, _, drawn, _ = draw(0, half_body_prob=1.0, half_body_points=17)
    assert drawn == crop


def test_skeletons_are_the_published_ones():
    with np.load("tests/data/dense/pose_codec.npz") as case:
        np.testing.assert_array_equal(np.float32(WHOLE_BODY.sigmas), case["sigmas"])
        np.testing.assert_array_equal(WHOLE_BODY.mirrored, case["flip_indices"])
    assert len(WHOLE_BODY.pairs) == 61 and len(COCO) == 17
    for skeleton in (COCO, WHOLE_BODY):
        skeleton.check()
        np.testing.assert_array_equal(skeleton.mirrored[skeleton.mirrored], range(len(skeleton)))


def test_black_is_outside():
    crop = crop_of_box((0, 0, 48, 64), SIZE, 2.0)
    image = crop.apply_image(np.full((64, 48, 3), 255, np.uint8))
    assert image[32, 24].min() == 255 and image[:14].max() == 0
    assert Image.fromarray(image).getbbox() is not None
