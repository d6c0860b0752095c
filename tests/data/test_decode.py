"""Decoding: right colors from any format, and errors that name the image."""

import numpy as np
import pytest
from PIL import ExifTags, Image

from cluenet_jax.data import decode, decode_image, image_size
from cluenet_jax.errors import ImageError
from tests.helpers.images import encode, smooth_image

RED = (200, 30, 40)
PALETTE = Image.new("RGB", (6, 4), RED).quantize(4)
SIXTEEN_BIT = Image.fromarray(np.full((4, 6), 90 * 257, np.uint16))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(encode(Image.new("RGB", (6, 4), RED)), RED, id="png"),
        pytest.param(encode(Image.new("RGB", (6, 4), RED), "BMP"), RED, id="bmp"),
        pytest.param(encode(Image.new("RGB", (6, 4), RED), "GIF"), RED, id="gif"),
        pytest.param(encode(Image.new("RGB", (6, 4), RED), "WEBP", lossless=True), RED, id="webp"),
        pytest.param(encode(Image.new("RGBA", (6, 4), (*RED, 128))), RED, id="rgba"),
        pytest.param(encode(PALETTE), RED, id="palette"),
        pytest.param(encode(PALETTE, transparency=0), RED, id="palette+alpha"),
        pytest.param(encode(Image.new("L", (6, 4), 90)), (90, 90, 90), id="gray"),
        pytest.param(encode(Image.new("LA", (6, 4), (90, 7))), (90, 90, 90), id="gray+alpha"),
        pytest.param(encode(Image.new("1", (6, 4), 1)), (255, 255, 255), id="1 bit"),
        pytest.param(encode(SIXTEEN_BIT), (90, 90, 90), id="16 bit"),
        pytest.param(encode(SIXTEEN_BIT, "TIFF"), (90, 90, 90), id="16 bit tiff"),
    ],
)
def test_any_format_decodes_to_its_colors(data, expected):
    image = decode_image(data)
    assert image.mode == "RGB" and image.size == (6, 4)
    np.testing.assert_allclose(np.asarray(image), np.broadcast_to(expected, (4, 6, 3)), atol=1)


def test_jpeg_modes_decode_to_their_colors():
    for image in (Image.new("RGB", (16, 16), RED), Image.new("RGB", (16, 16), RED).convert("CMYK")):
        decoded = decode_image(encode(image, "JPEG", quality=95))
        np.testing.assert_allclose(np.asarray(decoded)[8, 8], RED, atol=6)


def test_exif_rotation_is_applied():
    image = smooth_image(0, 40, 20)
    exif = Image.Exif()
    exif[0x0112] = 6  # To be rotated by 90 degrees clockwise.
    rotated = decode_image(encode(image, "PNG", exif=exif))
    expected = image.transpose(Image.Transpose.ROTATE_270)
    np.testing.assert_array_equal(np.asarray(rotated), np.asarray(expected))


@pytest.mark.parametrize(
    "data",
    [b"", b"no image", encode(smooth_image(0), "JPEG")[:300], encode(smooth_image(0))[:300]],
    ids=["empty", "text", "truncated jpeg", "truncated png"],
)
def test_corrupt_images_are_named(data):
    with pytest.raises(ImageError, match=r"cat\.jpg: not a readable image"):
        decode_image(data, "cat.jpg")


def test_huge_images_are_refused_unread(monkeypatch):
    with pytest.raises(ImageError, match="40x30 pixels; at most 1,199"):
        decode_image(encode(smooth_image(0)), max_pixels=1199)
    assert decode_image(encode(smooth_image(0)), max_pixels=1200).size == (40, 30)
    monkeypatch.setattr(decode, "MAX_PIXELS", 100)
    with pytest.raises(ImageError, match="40x30 pixels; at most 100"):
        decode_image(encode(smooth_image(0)))


def test_postscript_is_never_run():
    with pytest.raises(ImageError, match=r"not a readable image \(none of .*JPEG"):
        decode_image(encode(smooth_image(1), "EPS"))


def test_floating_point_images_are_refused():
    with pytest.raises(ImageError, match="floating point"):
        decode_image(encode(Image.fromarray(np.full((4, 4), 0.5, np.float32)), "TIFF"))


@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
def test_the_size_is_known_without_decoding(orientation):
    image, options = smooth_image(0, 40, 30), {}
    if orientation:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        options["exif"] = exif
    data = encode(image, "JPEG", **options)
    decoded = decode_image(data)
    assert image_size(data) == (decoded.height, decoded.width)
