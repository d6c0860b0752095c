"""Decoding and augmentation: right colours, and the laws of each change."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from PIL import Image

from cluenet_jax.data import augment_on_device, decode, decode_image, prepare_for_test
from cluenet_jax.data import device_augment as device
from cluenet_jax.data import host_augment as host
from cluenet_jax.errors import ImageError
from tests.pictures import data_config, encode, picture

RED = (200, 30, 40)


def palette(**options) -> bytes:
    return encode(Image.new("RGB", (6, 4), RED).quantize(4), **options)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encode(Image.new("RGB", (6, 4), RED)), RED),
        (encode(Image.new("RGB", (6, 4), RED), "BMP"), RED),
        (encode(Image.new("RGB", (6, 4), RED), "GIF"), RED),
        (encode(Image.new("RGB", (6, 4), RED), "WEBP", lossless=True), RED),
        (encode(Image.new("RGBA", (6, 4), (*RED, 128))), RED),
        (palette(), RED),
        (palette(transparency=0), RED),
        (encode(Image.new("L", (6, 4), 90)), (90, 90, 90)),
        (encode(Image.new("LA", (6, 4), (90, 7))), (90, 90, 90)),
        (encode(Image.new("1", (6, 4), 1)), (255, 255, 255)),
        (encode(Image.fromarray(np.full((4, 6), 90 * 257, np.uint16))), (90, 90, 90)),
        (encode(Image.fromarray(np.full((4, 6), 90 * 257, np.uint16)), "TIFF"), (90, 90, 90)),
    ],
    ids=["png", "bmp", "gif", "webp", "rgba", "palette", "palette+alpha", "grey", "grey+alpha"]
    + ["1 bit", "16 bit", "16 bit tiff"],
)
def test_any_format_decodes_to_its_colours(data, expected):
    image = decode_image(data)
    assert image.mode == "RGB" and image.size == (6, 4)
    np.testing.assert_allclose(np.asarray(image), np.broadcast_to(expected, (4, 6, 3)), atol=1)


def test_jpeg_modes_decode_to_their_colours():
    for image in (Image.new("RGB", (16, 16), RED), Image.new("RGB", (16, 16), RED).convert("CMYK")):
        decoded = decode_image(encode(image, "JPEG", quality=95))
        np.testing.assert_allclose(np.asarray(decoded)[8, 8], RED, atol=6)


def test_exif_rotation_is_applied():
    image = picture(0, 40, 20)
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned by 90 degrees clockwise.
    turned = decode_image(encode(image, "PNG", exif=exif))
    expected = image.transpose(Image.Transpose.ROTATE_270)
    np.testing.assert_array_equal(np.asarray(turned), np.asarray(expected))


@pytest.mark.parametrize(
    "data", [b"", b"no picture", encode(picture(0), "JPEG")[:300], encode(picture(0))[:300]]
)
def test_broken_pictures_are_named(data):
    with pytest.raises(ImageError, match=r"cat\.jpg: not a readable picture"):
        decode_image(data, "cat.jpg")


def test_huge_pictures_are_refused_unread(monkeypatch):
    monkeypatch.setattr(decode, "MAX_PIXELS", 100)
    with pytest.raises(ImageError, match="40x30 pixels; at most 100"):
        decode_image(encode(picture(0)))


def test_random_resized_crop_covers_the_wanted_area():
    # Columns hold their own number, so the crop can be read off the result.
    ramp = np.repeat(np.arange(100, dtype=np.uint8)[None], 100, 0)
    image = Image.fromarray(np.stack([ramp, ramp.T, ramp], -1))
    rng, areas = np.random.default_rng(0), []
    for _ in range(200):
        out = np.asarray(host.random_resized_crop(image, 50, rng, (0.2, 0.5))).astype(float)
        assert out.shape == (50, 50, 3)
        width = (out[25, -5, 0] - out[25, 4, 0]) * 50 / 41
        height = (out[-5, 25, 1] - out[4, 25, 1]) * 50 / 41
        areas.append(width * height / 10_000)
    assert 0.17 < min(areas) and max(areas) < 0.54
    assert max(areas) - min(areas) > 0.2


def test_random_resized_crop_of_a_ribbon_takes_its_middle():
    image = picture(0, 200, 2)
    out = host.random_resized_crop(image, 8, np.random.default_rng(0), (0.9, 1.0))
    assert out.size == (8, 8)


def test_color_jitter_of_zero_changes_nothing_and_hue_goes_round():
    image = picture(1)
    same = host.color_jitter(image, np.random.default_rng(0), 0, 0, 0, 0)
    np.testing.assert_array_equal(np.asarray(same), np.asarray(image))
    red = Image.new("RGB", (2, 2), (255, 0, 0))
    hues = set()
    for seed in range(40):
        turned = host.color_jitter(red, np.random.default_rng(seed), 0, 0, 0, 0.5)
        value = np.asarray(turned)[0, 0]
        assert value.max() == 255 and value.min() == 0  # Still a pure colour.
        hues.add(int(value.argmax()))
    assert hues == {0, 1, 2}


def test_rand_augment_changes_as_strongly_as_told():
    image = picture(1, 64, 64).point(lambda v: 40 + v // 2)
    fill = (124, 116, 104)
    for name, change in host._CHANGES.items():
        rng = np.random.default_rng(0)
        still, strong = (
            np.asarray(change(image, level, rng, fill)).astype(int) for level in (0, 1)
        )
        assert strong.shape == (64, 64, 3)
        assert (strong != np.asarray(image)).any(), name
        if name not in ("autocontrast", "equalize", "invert", "posterize"):
            np.testing.assert_allclose(still, np.asarray(image), atol=1, err_msg=name)
    changed = [
        np.asarray(host.rand_augment(image, np.random.default_rng(i), 9, 0.5, fill))
        for i in range(60)
    ]
    same = sum((c == np.asarray(image)).all() for c in changed)
    assert 5 < same < 30  # Both changes left out: a quarter.
    again = host.rand_augment(image, np.random.default_rng(3), 9, 0.5, fill)
    np.testing.assert_array_equal(again, changed[3])


def test_center_crop_takes_the_middle_of_the_resized_picture():
    image = picture(2, 64, 32)
    out = host.resize_and_center_crop(image, 32, 16, "lanczos")
    np.testing.assert_array_equal(np.asarray(out), np.asarray(image)[8:24, 24:40])
    np.testing.assert_array_equal(prepare_for_test(image, 16, 32, "lanczos"), np.asarray(out))


KEY = jax.random.key(0)


def batch(count: int = 16, side: int = 12) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (count, side, side, 3), dtype=np.uint8)


def test_random_crop_moves_the_picture_and_fills_with_black():
    images = batch()
    out = np.asarray(device.random_crop(KEY, images, 4))
    assert out.shape == images.shape and out.dtype == np.uint8
    np.testing.assert_array_equal(device.random_crop(KEY, images, 0), images)
    offsets = set()
    for before, after in zip(images, out, strict=True):
        padded = np.pad(before, ((4, 4), (4, 4), (0, 0)))
        found = [
            (i, j)
            for i in range(9)
            for j in range(9)
            if (padded[i : i + 12, j : j + 12] == after).all()
        ]
        assert len(found) == 1
        offsets.add(found[0])
    assert len(offsets) > 8


def test_mirroring_turns_about_half_and_twice_is_the_identity():
    images = batch(64)
    once = device.random_mirror(KEY, images)
    turned = [(a != b).any() for a, b in zip(np.asarray(once), images, strict=True)]
    assert 16 < sum(turned) < 48
    np.testing.assert_array_equal(device.random_mirror(KEY, once), images)


@pytest.mark.parametrize("mode", ["zeros", "noise"])
def test_erasing_takes_rectangles_of_the_wanted_area(mode):
    images = jnp.full((200, 32, 32, 3), 7.0)
    out = np.asarray(device.random_erase(KEY, images, 0.5, (0.02, 0.2), (0.3, 3.3), mode))
    erased = (out != 7).any(-1)
    touched = erased.any((1, 2))
    assert 70 < touched.sum() < 130
    for mask in erased[touched]:
        rows, columns = np.where(mask.any(1))[0], np.where(mask.any(0))[0]
        box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.all(), "the erased part is a rectangle"
        assert 0.01 < box.mean() * box.size / 1024 < 0.24
    filling = out[erased]
    assert (filling == 0).all() if mode == "zeros" else 0.9 < filling.std() < 1.1
    chance = device.random_erase(KEY, images, 0.0, (0.02, 0.2), (0.3, 3.3), mode)
    np.testing.assert_array_equal(chance, images)


AUGMENT = dict(crop_padding=2, mirror=True, erase_prob=0.5)


def augmented(key, images):
    config = data_config(augment=AUGMENT)
    return augment_on_device(key, images, config.augment, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def test_augmentation_is_the_same_jitted_and_split_over_devices():
    images = batch()
    once = augmented(KEY, images)
    chex.assert_type(once, jnp.float32)
    np.testing.assert_allclose(jax.jit(augmented)(KEY, images), once, atol=1e-6)
    mesh = Mesh(jax.devices(), ("data",))
    split = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
    np.testing.assert_allclose(jax.jit(augmented)(KEY, split), once, atol=1e-6)
    assert (np.asarray(augmented(jax.random.key(1), images)) != once).any()


def test_normalise():
    out = device.normalize(jnp.full((1, 1, 1, 3), 255, jnp.uint8), (0.5, 0, 1), (0.5, 1, 2))
    np.testing.assert_allclose(out[0, 0, 0], [1, 1, 0])


def test_postscript_is_never_run_and_floats_are_refused():
    with pytest.raises(ImageError, match=r"not a readable picture \(none of .*JPEG"):
        decode_image(encode(picture(1), "EPS"))
    with pytest.raises(ImageError, match="floating point"):
        decode_image(encode(Image.fromarray(np.full((4, 4), 0.5, np.float32)), "TIFF"))
