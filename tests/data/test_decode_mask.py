"""Masks: labels from every kind of PNG, and what is wrong with those that have none."""

import numpy as np
import pytest
from PIL import Image

from cluenet_jax.data import IGNORED, MaskFormat, decode_mask, decode_pair
from cluenet_jax.errors import ImageError
from tests.helpers.images import encode, smooth_image, stripes

THREE = MaskFormat((0, 1, 2))
ADE_LIKE = MaskFormat((IGNORED, 0, 1))
COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 0))
COLORED = MaskFormat((0, 1, IGNORED), COLORS)
STRIPES = stripes(3)


def palette_image(values: np.ndarray) -> Image.Image:
    image = Image.fromarray(values).convert("P")
    image.putdata(values.ravel().tolist())
    image.putpalette([9, 9, 9] * 256)
    return image


def in_colors(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.array(COLORS, np.uint8)[values])


def test_gray_palette_and_16_bit_masks_hold_values():
    kinds = {
        "gray": Image.fromarray(STRIPES),
        "palette": palette_image(STRIPES),
        "16 bit": Image.fromarray(STRIPES.astype(np.uint16)),
        "with alpha": Image.merge("LA", [Image.fromarray(STRIPES)] * 2),
    }
    for name, image in kinds.items():
        mask = decode_mask(encode(image), THREE, name)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, STRIPES, name)
    for bits in (1, 2, 4):
        small = encode(palette_image(STRIPES % 2), bits=bits)
        np.testing.assert_array_equal(decode_mask(small, THREE), STRIPES % 2)
    binary = encode(Image.fromarray(STRIPES > 0))
    np.testing.assert_array_equal(decode_mask(binary, THREE), STRIPES > 0)


def png(depth: int, rows: list[bytes], width: int) -> bytes:
    """A gray PNG of a depth that Pillow does not write."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, len(rows), depth, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_gray_values_of_2_and_4_bits_are_not_stretched():
    four_bits = png(4, [bytes([0x01, 0x20])] * 2, 4)
    np.testing.assert_array_equal(decode_mask(four_bits, THREE), [[0, 1, 2, 0]] * 2)
    two_bits = png(2, [bytes([0b00011001])] * 2, 4)
    np.testing.assert_array_equal(decode_mask(two_bits, THREE), [[0, 1, 2, 1]] * 2)


def test_values_that_are_not_counted():
    values = STRIPES.copy()
    values[0] = 255
    mask = decode_mask(encode(Image.fromarray(values)), ADE_LIKE)
    assert (mask[0] == IGNORED).all()
    np.testing.assert_array_equal(mask[1:], np.array([IGNORED, 0, 1], np.uint8)[STRIPES[1:]])


def test_a_mask_may_be_ignored_as_a_whole():
    mask = decode_mask(encode(Image.new("L", (6, 4), 255)), THREE)
    assert (mask == IGNORED).all()


def test_16_bit_values_may_be_large():
    large = MaskFormat((*[IGNORED] * 300, 7))
    mask = decode_mask(encode(Image.fromarray(np.full((4, 6), 300, np.uint16))), large)
    assert (mask == 7).all()


def test_colors_are_looked_up():
    expected = np.array([0, 1, IGNORED], np.uint8)[STRIPES]
    for image in (in_colors(STRIPES), in_colors(STRIPES).convert("RGBA")):
        np.testing.assert_array_equal(decode_mask(encode(image), COLORED), expected)
    # The classes' numbers in a gray file, too.
    np.testing.assert_array_equal(decode_mask(encode(Image.fromarray(STRIPES)), COLORED), expected)


def test_many_random_colors_are_looked_up():
    rng = np.random.default_rng(0)
    colors = np.unique(rng.integers(0, 256, (200, 3)), axis=0)
    rng.shuffle(colors)
    values = rng.integers(len(colors), size=(20, 30))
    mask_format = MaskFormat(tuple(range(len(colors))), tuple(map(tuple, colors.tolist())))
    image = Image.fromarray(colors[values].astype(np.uint8))
    np.testing.assert_array_equal(decode_mask(encode(image), mask_format), values)


def with_value(value: int) -> bytes:
    values = STRIPES.astype(np.int32)
    values[4, 5:8] = value
    return encode(Image.fromarray(values.astype(np.uint8 if value < 256 else np.uint16)))


def with_color(*color: int) -> bytes:
    pixels = np.array(in_colors(STRIPES))
    pixels[2, 3] = color
    return encode(Image.fromarray(pixels))


@pytest.mark.parametrize(
    ("data", "mask_format", "message"),
    [
        (with_value(3), THREE, r"value 3 in 3 pixels .*row 4, column 5.* are 0 \.\. 2, and 255"),
        (with_value(254), THREE, "value 254 in 3 pixels"),
        (with_value(1000), THREE, "value 1000 in 3 pixels"),
        (encode(in_colors(STRIPES)), THREE, "an RGB mask, but the classes have no colors; give"),
        (with_color(1, 2, 3), COLORED, r"color \(1, 2, 3\) in 1 pixels .*2, column 3.*\(0, 0, 0\)"),
        (with_color(255, 255, 255), COLORED, r"color \(255, 255, 255\) in 1 pixels"),
        (encode(Image.fromarray(STRIPES), "JPEG"), THREE, r"not a readable image \(none of PNG\)"),
        (encode(Image.fromarray(STRIPES))[:60], THREE, "not a readable image"),
        (b"", THREE, "not a readable image"),
        (b"no image at all, but a text", THREE, "not a readable image"),
    ],
)  # fmt: skip
def test_bad_masks_are_named_with_what_is_wrong(data, mask_format, message):
    with pytest.raises(ImageError, match=rf"street\.png: .*{message}"):
        decode_mask(data, mask_format, "street.png")


def record(image: Image.Image, mask: np.ndarray, **options) -> dict:
    return {
        "image": encode(image, **options),
        "mask": encode(Image.fromarray(mask)),
        "mask_format": THREE,
        "name": "a.png",
    }


def test_pairs_are_of_one_size():
    image, mask = decode_pair(record(smooth_image(0), STRIPES))
    assert image.shape == (30, 40, 3) and mask.shape == (30, 40)
    with pytest.raises(
        ImageError, match=r"mask of a\.png: 40x29 .*the image .*40x30; they must be"
    ):
        decode_pair(record(smooth_image(0), STRIPES[:29]))


def test_masks_are_as_the_image_is_seen():
    """The image is turned as its EXIF says; a mask of its stored pixels does not fit."""
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = stripes(3, height=40, width=30)
    image, mask = decode_pair(record(smooth_image(0), turned, exif=exif))
    assert image.shape[:2] == mask.shape == (40, 30)
    with pytest.raises(ImageError, match="40x30 pixels, .*EXIF.* 30x40; turn the mask"):
        decode_pair(record(smooth_image(0), STRIPES, exif=exif))
