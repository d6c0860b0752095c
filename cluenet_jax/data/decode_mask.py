"""Decoding of segmentation masks to one label per pixel."""

import dataclasses
import functools

import numpy as np
from PIL import Image

from cluenet_jax.data.decode import decode_image, decode_with
from cluenet_jax.data.records import Record
from cluenet_jax.errors import ImageError

# The label of pixels that are not counted, and the value of a mask file that always means it.
IGNORED = 255
# Gray masks of 2 and 4 bits, whose values Pillow stretches to 0 .. 255.
_STRETCHED = {2: 85, 4: 17}


@dataclasses.dataclass(frozen=True)
class MaskFormat:
    """How the files of a dataset's masks say the class of a pixel.

    Attributes:
      labels: The label of each value 0, 1, ... of a gray or palette file; `IGNORED` for a value
        that is not counted. 255 need not be among them.
      colors: The color of each value in RGB files, None where it has none; empty if the dataset
        has no colors.
    """

    labels: tuple[int, ...]
    colors: tuple[tuple[int, int, int] | None, ...] = ()

    @functools.cached_property
    def label_of_value(self) -> np.ndarray:
        """uint8 table, at least up to 255."""
        table = np.full(max(len(self.labels), 256), IGNORED, np.uint8)
        table[: len(self.labels)] = self.labels
        return table

    @functools.cached_property
    def label_of_color(self) -> tuple[np.ndarray, np.ndarray]:
        """The colors as sorted numbers `r << 16 | g << 8 | b`, and the label of each."""
        pairs = zip(self.colors, self.labels, strict=True)
        rows = sorted((_number(c), label) for c, label in pairs if c is not None)
        numbers, labels = zip(*rows, strict=True)
        return np.array(numbers, np.int32), np.array(labels, np.uint8)


def decode_mask(data: bytes, mask_format: MaskFormat, name: str = "mask") -> np.ndarray:
    """Decodes a mask, a PNG file.

    A gray or palette file (1 to 16 bits) holds values, of which the palette's colors say
    nothing; an RGB file holds colors. Alpha is dropped. A mask may be ignored as a whole: it
    counts in no metric, and adds nothing to a loss.

    Args:
      data: The file's bytes.
      mask_format: What values and colors mean.
      name: The mask's name in errors.

    Returns:
      uint8 `[H, W]`, labels and `IGNORED`. An EXIF rotation of the mask is not applied.

    Raises:
      ImageError: Not a PNG, truncated, a value or color that is no class's, or an RGB file where
        classes have no colors; says which, in how many pixels, where, and what would be right.
    """
    depth = data[24] if len(data) > 24 else 8

    def convert(image: Image.Image) -> np.ndarray:
        if image.mode in ("RGB", "RGBA"):
            return _labels_of_colors(np.asarray(image)[..., :3], mask_format)
        if image.mode == "LA":
            image = image.getchannel("L")
        values = np.asarray(image)
        if image.mode == "L":
            values = values // _STRETCHED.get(depth, 1)
        return _labels_of_values(values.astype(np.int32), mask_format)

    return decode_with(convert, data, name, ("PNG",))


def decode_pair(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """The image and the mask of a record, which must be of one size.

    An EXIF rotation of the image is applied, as it is to all images, so the mask is to be as the
    image is seen. (A mask of the stored pixels, turned by 90 degrees, is found by its size; one
    turned by 180 degrees is not.)

    Args:
      record: With `image`, `mask`, `mask_format` and `name`.

    Returns:
      uint8 `[H, W, 3]` and uint8 `[H, W]`.

    Raises:
      ImageError: One of them cannot be decoded, or they differ in size.
    """
    image = np.asarray(decode_image(record["image"], record["name"]))
    mask = decode_mask(record["mask"], record["mask_format"], f"mask of {record['name']}")
    if image.shape[:2] != mask.shape:
        turned = image.shape[:2] == mask.shape[::-1]
        advice = "turn the mask as the image is seen" if turned else "they must be of one size"
        raise ImageError(
            f"mask of {record['name']}: {mask.shape[1]}x{mask.shape[0]} pixels, the image (turned "
            f"as its EXIF says) {image.shape[1]}x{image.shape[0]}; {advice}."
        )
    return image, mask


def _labels_of_values(values: np.ndarray, mask_format: MaskFormat) -> np.ndarray:
    count = len(mask_format.labels)
    unknown = (values >= count) & (values != IGNORED)
    if unknown.any():
        value = int(values[unknown][0])
        raise ImageError(
            f"value {value} in {_where(values == value)}; values are 0 .. {count - 1}, and "
            f"{IGNORED} for pixels that are not counted."
        )
    return mask_format.label_of_value[values]


def _labels_of_colors(rgb: np.ndarray, mask_format: MaskFormat) -> np.ndarray:
    if not any(mask_format.colors):
        raise ImageError(
            "an RGB mask, but the classes have no colors; give each line of classes.txt its "
            "color, `NAME r g b`, or save the mask as a gray or palette PNG of class numbers."
        )
    known, labels = mask_format.label_of_color
    numbers = (rgb.astype(np.int32) << np.array([16, 8, 0], np.int32)).sum(axis=-1, dtype=np.int32)
    index = np.searchsorted(known, numbers).clip(max=len(known) - 1)
    unknown = known[index] != numbers
    if unknown.any():
        number = numbers[unknown][0]
        y, x = np.argwhere(unknown)[0]
        raise ImageError(
            f"color {tuple(rgb[y, x].tolist())} in {_where(numbers == number)}; it is no class's. "
            f"Colors of classes: {', '.join(str(c) for c in mask_format.colors if c)}."
        )
    return labels[index]


def _number(color: tuple[int, int, int]) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]


def _where(chosen: np.ndarray) -> str:
    y, x = np.argwhere(chosen)[0]
    return f"{int(chosen.sum())} pixels (the first in row {y}, column {x})"
