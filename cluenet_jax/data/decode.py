"""Decoding of image files to RGB."""

import io
import warnings
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from cluenet_jax.errors import ImageError

# Images above this are refused before they are unpacked (decompression bombs).
MAX_PIXELS = 178_956_970
# Only formats that hold pixels: Pillow would run Ghostscript on an EPS file.
_PIXEL_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
# Not every Pillow has every codec, and `Image.open` fails on one it does not know.
FORMATS = tuple(sorted(set(_PIXEL_FORMATS) & set(Image.registered_extensions().values())))
_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")
Decoded = TypeVar("Decoded")


def decode_image(data: bytes, name: str = "image", max_pixels: int | None = None) -> Image.Image:
    """Decodes an image of any of `FORMATS` and any mode of whole numbers.

    Gray, palette, CMYK and alpha become plain RGB (alpha is dropped, as the
    field does), 16-bit gray is scaled to 8 bits, an EXIF rotation is applied.

    Args:
      data: The file's bytes.
      name: The image's name in errors.
      max_pixels: Bound above which images are refused; `MAX_PIXELS` if None.

    Returns:
      A Pillow image of mode RGB.

    Raises:
      ImageError: Not an image, truncated, of floating point pixels, or above `max_pixels`.
    """
    return decode_with(_to_rgb, data, name, FORMATS, max_pixels)


def image_size(data: bytes, name: str = "image") -> tuple[int, int]:
    """Height and width of what `decode_image` would return; decodes no pixels."""
    return decode_with(_upright_size, data, name, FORMATS)


def decode_with(
    convert: Callable[[Image.Image], Decoded],
    data: bytes,
    name: str,
    formats: tuple[str, ...],
    max_pixels: int | None = None,
) -> Decoded:
    """Opens an image file and converts it; any failure becomes an `ImageError`.

    Args:
      convert: What makes the result of an opened image, whose pixels are not loaded yet. Its
        `ImageError`s get the name in front.
      data, name, max_pixels: As for `decode_image`.
      formats: Pillow's names of those that are read.

    Raises:
      ImageError: Of `convert`; or not an image of these formats, truncated, or above `max_pixels`.
    """
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    try:
        with warnings.catch_warnings():
            # Pillow warns at half of its own bound; ours is checked below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=formats)
            if image.width * image.height > limit:
                raise ImageError(
                    f"{image.width}x{image.height} pixels; at most {limit:,} are read."
                )
            return convert(image)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not a readable image (none of {', '.join(formats)}).") from error
    except Exception as error:  # Pillow's decoders raise errors of any type.
        reason = str(error) or type(error).__name__
        raise ImageError(f"{name}: not a readable image ({reason}).") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        # Their range is not stated in the file; `convert` would clip to black.
        raise ImageError("floating point pixels; save it with 8 or 16 bits.")
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode in _SIXTEEN_BIT_MODES:
        # `convert` would clip at 255 instead of scaling.
        gray = np.asarray(image).astype(np.int64).clip(0, 65535) >> 8
        image = Image.fromarray(gray.astype(np.uint8))
    image.load()
    # `convert` would copy.
    return image if image.mode == "RGB" else image.convert("RGB")


def _upright_size(image: Image.Image) -> tuple[int, int]:
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    return (image.width, image.height) if turned else (image.height, image.width)
