"""Transforms of images with instances: one geometry for all, slots, canvases, laws of the draws."""

import logging

import numpy as np
import pytest

from cluenet_jax.data import load_dataset
from cluenet_jax.data.instances import Instances
from cluenet_jax.data.rle import encode_bitmap
from cluenet_jax.data.transforms import (
    Geometry,
    Window,
    align_size,
    bitmaps_shape,
    draw_steps,
    is_wide,
    list_canvases,
    move_image,
    pad_image,
    pick_canvas,
    resize_steps,
    size_after,
    truth_slots,
)
from cluenet_jax.errors import ImageError
from tests.helpers.golden import DATA

SIZE = (90, 120)
BOXES = [(10, 20, 40, 60), (0, 0, 120, 90), (95, 5, 118, 88), (50, 70, 90, 74)]
# Small bounds in the proportions of the protocol of 36 epochs.
SMALL = dict(
    scales=[(133, side) for side in range(48, 81, 4)],
    crop_scales=[(420, side) for side in (40, 50, 60)],
    crop_sides=(38, 60),
)


@pytest.fixture(scope="module")
def recorded():
    with np.load(DATA / "dense" / "resize_pictures.npz") as file:
        return dict(file)


def rectangles(boxes=BOXES, size=SIZE, masks=True):
    """Instances whose pixels fill their boxes."""
    rows = []
    for label, (x1, y1, x2, y2) in enumerate(boxes):
        bitmap = np.zeros(size, bool)
        bitmap[y1:y2, x1:x2] = True
        mask = encode_bitmap(bitmap) if masks else None
        rows.append(((x1, y1, x2, y2), label, bitmap.sum(), False, mask))
    return Instances.of_rows(rows)


def slots_of(instances, steps, size=SIZE, num_slots=6, canvas=(320, 320), **options):
    """With bitmaps of a byte a pixel."""
    slots = truth_slots(instances, size, steps, num_slots=num_slots, canvas=canvas, **options)
    if canvas is not None:
        packed = slots["bitmaps"]
        assert packed.shape == bitmaps_shape(num_slots, canvas) and packed.dtype == np.uint8
        slots["bitmaps"] = np.unpackbits(packed, axis=-1).astype(bool)
    return slots


def identity(size=SIZE):
    return (Geometry(Window.whole(size)),)


def test_sizes_and_factors_are_the_recorded_ones(recorded):
    sizes = [tuple(size) for size in recorded["sizes"].tolist()]
    for size, after, factors, padded in zip(
        sizes,
        recorded["coco"],
        recorded["coco_scale_factor"],
        recorded["coco_padded"],
        strict=True,
    ):
        steps = resize_steps(size, (1333, 800))
        assert size_after(steps) == tuple(after)
        box = np.array([[0, 0, 1, 1], [3, 5, 30, 40]])
        moved = steps[0].apply_boxes(box, size)
        np.testing.assert_allclose(moved, box * [*factors, *factors], rtol=1e-6)
        assert align_size(size_after(steps), 32) == tuple(padded)


def test_nothing_changes_without_a_change():
    slots = slots_of(rectangles(), identity(), canvas=(96, 128))
    assert {key: (array.dtype, array.shape) for key, array in slots.items()} == {
        "boxes": (np.float32, (6, 4)),
        "labels": (np.int32, (6,)),
        "present": (bool, (6,)),
        "bitmaps": (bool, (6, 96, 128)),
    }
    np.testing.assert_array_equal(slots["boxes"][:4], BOXES)
    assert slots["labels"].tolist() == [0, 1, 2, 3, 0, 0]
    assert slots["present"].tolist() == [True] * 4 + [False] * 2
    for bitmap, (x1, y1, x2, y2) in zip(slots["bitmaps"], BOXES, strict=False):
        assert bitmap[y1:y2, x1:x2].all() and bitmap.sum() == (y2 - y1) * (x2 - x1)
    assert not slots["bitmaps"][4:].any() and not slots["boxes"][4:].any()
    assert "bitmaps" not in slots_of(rectangles(), identity(), canvas=None)


@pytest.mark.parametrize("seed", range(30))
def test_image_boxes_and_bitmaps_move_together(seed):
    """Instances as an image: after any steps all three show the same, up to the edges between."""
    rng = np.random.default_rng(seed)
    steps = draw_steps(SIZE, rng, crop_prob=0.5, **SMALL)
    instances = rectangles()
    slots = slots_of(instances, steps)
    height, width = size_after(steps)
    assert height <= 80 and width <= 133 and slots["present"].any()
    assert not slots["bitmaps"][:, height:].any() and not slots["bitmaps"][:, :, width:].any()
    labels, boxes = (slots[key][slots["present"]] for key in ("labels", "boxes"))
    assert (boxes >= 0).all() and (boxes <= [width, height] * 2).all()
    for label, box, bitmap in zip(labels, boxes, slots["bitmaps"], strict=False):
        x1, y1, x2, y2 = BOXES[label]
        pixels = np.zeros((*SIZE, 3), np.uint8)
        pixels[y1:y2, x1:x2] = 200
        moved = move_image(pixels, steps)[..., 0] > 100
        # Nearest takes the pixel before, so edges may differ by a pixel, or by two after a crop.
        edge = 2 * len(steps)
        inner, outer = np.zeros((2, height, width), bool)
        left, top, right, bottom = (int(side) for side in box)
        inner[top + edge : max(bottom - edge, 0), left + edge : max(right - edge, 0)] = True
        outer[max(top - edge, 0) : bottom + edge, max(left - edge, 0) : right + edge] = True
        for shown in (moved, bitmap[:height, :width]):
            assert shown[inner].all() and not shown[~outer].any()


def test_the_flip_mirrors_all_of_it():
    plain, flipped = (resize_steps(SIZE, (240, 180), flip=flip) for flip in (False, True))
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    np.testing.assert_array_equal(move_image(pixels, flipped), move_image(pixels, plain)[:, ::-1])
    one, other = (slots_of(rectangles(), steps, canvas=(180, 240)) for steps in (plain, flipped))
    np.testing.assert_array_equal(other["bitmaps"], one["bitmaps"][:, :, ::-1])
    np.testing.assert_array_equal(other["boxes"][:4, [0, 2]], 240 - one["boxes"][:4, [2, 0]])
    np.testing.assert_array_equal(other["boxes"][:, 1::2], one["boxes"][:, 1::2])


def test_a_crop_cuts_boxes_and_drops_what_is_outside():
    crop = (Geometry(Window(SIZE, top=30, left=15, height=40, width=60)),)
    slots = slots_of(rectangles(), crop)
    # The third is outside of it, the fourth touches its edge from without.
    assert slots["labels"][slots["present"]].tolist() == [0, 1]
    np.testing.assert_array_equal(slots["boxes"][:2], [(0, 0, 25, 30), (0, 0, 60, 40)])
    assert slots["bitmaps"][0, :30, :25].all() and slots["bitmaps"][0].sum() == 30 * 25
    empty = slots_of(rectangles(BOXES[:1]), (Geometry(Window(SIZE, 70, 60, 10, 10)),))
    assert not any(array.any() for array in empty.values())


def test_crowds_take_no_slot():
    instances = rectangles()
    instances.crowd[1] = True
    slots = slots_of(instances, identity())
    assert slots["labels"][slots["present"]].tolist() == [0, 2, 3]


def test_of_too_many_the_largest_are_kept_in_order(caplog):
    sides = [3, 9, 5, 9, 7, 2, 9]
    instances = rectangles([(0, 0, side, side) for side in sides])
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            slots = slots_of(instances, identity(), num_slots=4, name="too many")
    assert slots["labels"].tolist() == [1, 3, 4, 6] and slots["present"].all()
    assert slots["bitmaps"].sum((1, 2)).tolist() == [81, 81, 49, 81]
    lines = [r.getMessage() for r in caplog.records if r.name.startswith("cluenet_jax")]
    assert lines == ["too many has 7 instances; the 4 of the largest boxes are learned, 3 are not."]
    # Of equal ones the first.
    slots = slots_of(instances, identity(), num_slots=2, name="far too many")
    assert slots["labels"].tolist() == [1, 3]


def test_500_instances_fit_into_100_slots():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 60, (500, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 30, (500, 2))], axis=1)
    slots = slots_of(rectangles(boxes), identity(), num_slots=100, name="crowded")
    assert slots["present"].all()
    areas = np.sort(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))[::-1]
    kept = np.prod(slots["boxes"][:, 2:] - slots["boxes"][:, :2], axis=1)
    np.testing.assert_array_equal(np.sort(kept)[::-1], areas[:100])


def test_bitmaps_need_masks():
    instances = rectangles(masks=False)
    assert slots_of(instances, identity(), canvas=None)["present"].sum() == 4
    with pytest.raises(ImageError, match="x.jpg: 4 of 4 instances have a box and no mask"):
        slots_of(instances, identity(), name="x.jpg")


def test_an_image_without_instances_has_empty_slots():
    slots = slots_of(Instances.of_rows([]), identity())
    assert slots["boxes"].shape == (6, 4) and not any(array.any() for array in slots.values())


def test_scenes_of_digits_become_examples():
    record = load_dataset("digit_scenes").eval[0]
    steps = resize_steps(record["size"], (128, 128), flip=True)
    slots = slots_of(record["instances"], steps, size=record["size"], canvas=(128, 128))
    for box, bitmap, present in zip(
        slots["boxes"], slots["bitmaps"], slots["present"], strict=True
    ):
        if present:
            ys, xs = np.flatnonzero(bitmap.any(1)), np.flatnonzero(bitmap.any(0))
            np.testing.assert_array_equal(box, [xs[0], ys[0], xs[-1] + 1, ys[-1] + 1])
    assert slots["present"].sum() == len(record["instances"])


def test_draws_follow_their_bounds():
    all_steps = [
        draw_steps(SIZE, np.random.default_rng(seed), crop_prob=0.5, **SMALL) for seed in range(400)
    ]
    cropped = [steps for steps in all_steps if len(steps) == 2]
    np.testing.assert_allclose(len(cropped) / 400, 0.5, atol=0.08)
    np.testing.assert_allclose(np.mean([s[-1].flip for s in all_steps]), 0.5, atol=0.08)
    # 90x120 at (133, 48 .. 80), where the longer side is never the bound.
    heights = {size_after(steps)[0] for steps in all_steps if len(steps) == 1}
    assert heights == {*range(48, 81, 4)}
    windows = [steps[0].window for steps in cropped]
    assert {window.size[0] for window in windows} == {40, 50, 60}
    for window in windows:
        for side, length in ((window.height, window.size[0]), (window.width, window.size[1])):
            assert min(38, length) <= side <= min(60, length)
        assert 0 <= window.top <= window.size[0] - window.height
        assert 0 <= window.left <= window.size[1] - window.width
    for fraction in (0.0, 1.0):
        options = dict(scales=[(133, 80)], flip_prob=fraction)
        flips = {draw_steps(SIZE, np.random.default_rng(i), **options)[-1].flip for i in range(20)}
        assert flips == {bool(fraction)}


def test_parts_fit_into_the_canvas_of_their_image():
    """Those that do not are made smaller, their aspect kept; nothing else changes."""
    canvas = (56, 80)
    num_smaller = 0
    for seed in range(200):
        free, bound = (
            draw_steps(SIZE, np.random.default_rng(seed), crop_prob=0.7, canvas=limit, **SMALL)
            for limit in (None, canvas)
        )
        (height, width), (high, wide) = size_after(free), size_after(bound)
        assert high <= canvas[0] and wide <= canvas[1]
        if height <= canvas[0] and width <= canvas[1]:
            assert free == bound
        else:
            num_smaller += 1
            assert free[:-1] == bound[:-1] and bound[-1].flip == free[-1].flip
            assert high == canvas[0] or wide == canvas[1]
            assert abs(wide / width - high / height) <= 0.5 / min(width, height)
    assert 20 < num_smaller < 180


def test_the_same_generator_draws_the_same():
    draws = [
        draw_steps(SIZE, np.random.default_rng(seed), crop_prob=0.5, **SMALL) for seed in (3, 3, 4)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_every_image_has_a_canvas_of_its_group(recorded):
    assert list_canvases((1333, 800)) == [(800, 1344), (1344, 800)]
    assert list_canvases((800, 1333), steps=3)[:3] == [(800, 992), (800, 1184), (800, 1344)]
    assert list_canvases((64, 64)) == [(64, 64)]
    for steps in (1, 3):
        canvases = list_canvases((1333, 800), steps=steps)
        for size in map(tuple, recorded["coco"].tolist()):
            canvas = pick_canvas(size, canvases)
            assert canvas[0] >= size[0] and canvas[1] >= size[1]
            assert (canvas[1] > canvas[0]) == is_wide(size) and not any(np.mod(canvas, 32))
    assert pick_canvas((800, 1067), list_canvases((1333, 800), steps=3)) == (800, 1184)
    assert pick_canvas((48, 64), [(64, 64)]) == pick_canvas((64, 48), [(64, 64)]) == (64, 64)
    with pytest.raises(ValueError, match="An image of 801x700 pixels fits into none of"):
        pick_canvas((801, 700), [(800, 1344)])


def test_padding_is_at_the_bottom_right():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    padded = pad_image(pixels, (8, 8), (1, 2, 3))
    np.testing.assert_array_equal(padded[:5, :7], pixels)
    assert (padded[5:] == (1, 2, 3)).all() and (padded[:, 7:] == (1, 2, 3)).all()
    assert padded.shape == (8, 8, 3) and padded.dtype == np.uint8
