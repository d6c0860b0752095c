"""Pasting of masks: the recorded cases, and codes equal to pycocotools' own."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from cluenet_jax.metrics.masks import encode_mask, paste_mask
from tests.helpers.golden import DATA


@pytest.fixture(scope="module")
def recorded():
    with np.load(DATA / "dense" / "det_masks.npz") as file:
        return dict(file)


def logits_of(probabilities):
    return np.log(probabilities / (1 - probabilities)).astype(np.float32)


def decode(code):
    return coco_mask.decode([code])[..., 0]


@pytest.mark.parametrize("case", range(8))
def test_the_recorded_pastings(recorded, case):
    probabilities, box = recorded["paste/probability"][case], recorded["boxes"][case]
    values = paste_mask(probabilities, box, (60, 80))
    np.testing.assert_allclose(values, recorded["paste/value"][case], atol=2e-6)
    expected = recorded["paste/mask"][case]
    mask = decode(encode_mask(logits_of(probabilities), box, (60, 80)))
    # A pixel at 0.5 but for rounding may differ.
    assert (mask != expected).mean() < 1e-3 and expected.any()


@pytest.mark.parametrize("image", range(2))
def test_the_recorded_masks_of_detections(image):
    """From boxes of the resized image to masks of the file's size."""
    with np.load(DATA / "dense" / "maskrcnn_odd_masks.npz") as file:
        recorded = {key: file[key] for key in file}
    size = tuple(recorded[f"image{image}/ori_shape"].tolist())
    factors = np.divide(recorded[f"image{image}/img_shape"], size)[::-1].astype(np.float32)
    np.testing.assert_allclose(factors, recorded[f"image{image}/scale_factor"], rtol=1e-7)
    boxes = recorded[f"test/boxes{image}"] / [*factors, *factors]
    np.testing.assert_allclose(boxes, recorded[f"test/boxes_original{image}"], rtol=1e-6)
    shape = recorded[f"test/mask_shape{image}"]
    masks = np.unpackbits(recorded[f"test/masks{image}"], count=shape.prod()).reshape(shape)
    pairs = zip(recorded[f"test/mask_probability{image}"], boxes, masks, strict=False)
    for number, (probabilities, box, expected) in enumerate(pairs):
        code = encode_mask(logits_of(probabilities), box, size)
        assert (decode(code) != expected).mean() < 1e-3
        assert abs(coco_mask.area(code) - recorded[f"test/mask_area{image}"][number]) <= 1


@pytest.mark.parametrize("seed", range(30))
def test_codes_are_those_of_the_whole_image(seed):
    """The window is walked through alone, yet the code is what pycocotools gives for all of it."""
    rng = np.random.default_rng(seed)
    logits = (5 * rng.standard_normal((28, 28))).astype(np.float32)
    corner, side = rng.uniform(-20, 60, 2), rng.uniform(0.3, 60, 2)
    box = np.concatenate([corner, corner + side])
    # Whole columns, whose runs go on in the next one.
    box = np.array([5.0, -9, 40, 60]) if seed == 0 else box
    logits = np.full((28, 28), 9, np.float32) if seed == 0 else logits
    pasted = paste_mask(1 / (1 + np.exp(-logits.astype(np.float64))), box, (41, 53)) >= 0.5
    code = encode_mask(logits, box, (41, 53))
    assert code == coco_mask.encode(np.asfortranarray(pasted.astype(np.uint8)))


def slow_paste(probabilities, box, size):
    """One pixel and one neighbor after the other, in float64."""
    side = len(probabilities)
    values = np.zeros(size)
    for y in range(size[0]):
        for x in range(size[1]):
            v = (y + 0.5 - box[1]) / (box[3] - box[1]) * side - 0.5
            u = (x + 0.5 - box[0]) / (box[2] - box[0]) * side - 0.5
            for row in (int(np.floor(v)), int(np.floor(v)) + 1):
                for column in (int(np.floor(u)), int(np.floor(u)) + 1):
                    if 0 <= row < side and 0 <= column < side:
                        weight = (1 - abs(v - row)) * (1 - abs(u - column))
                        values[y, x] += weight * probabilities[row, column]
    return values


@pytest.mark.parametrize("box", [(2.3, 1.2, 17.9, 11.1), (-8, 3, 9, 30), (4.2, 4.4, 5.1, 4.9)])
def test_pastings_equal_the_definition(box):
    probabilities = np.random.default_rng(0).random((28, 28)).astype(np.float32)
    expected = slow_paste(probabilities, box, (13, 20))
    values = paste_mask(probabilities, np.float32(box), (13, 20))
    np.testing.assert_allclose(values, expected, atol=2e-5)
    assert values.dtype == np.float32


@pytest.mark.parametrize(
    "box", [(5, 5, 5, 9), (5, 9, 8, 5), (100, 5, 120, 9), (-30, 5, -10, 9), (np.nan, 5, 8, 9)]
)
def test_boxes_without_area_or_outside_have_empty_masks(box):
    logits = np.full((28, 28), 5, np.float32)
    assert not paste_mask(logits, np.float32(box), (20, 30)).any()
    code = encode_mask(logits, np.float32(box), (20, 30))
    assert code["size"] == [20, 30] and coco_mask.area(code) == 0


def test_large_logits_do_not_overflow():
    logits = np.full((28, 28), -1e4, np.float32)
    logits[:14] = 1e4
    with np.errstate(all="raise"):
        mask = decode(encode_mask(logits, np.float32([0, 0, 28, 28]), (28, 28)))
    np.testing.assert_array_equal(mask[:, 5], np.arange(28) < 14)
