"""Images and small datasets made by code, for the tests."""

import io
import pathlib

import numpy as np
from PIL import Image


def smooth_image(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    """A smooth RGB image."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, format: str = "PNG", **options) -> bytes:
    """The bytes of an image's file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def image_folder(root: pathlib.Path, train: int = 6, test: int = 3, side: int = 32) -> pathlib.Path:
    """root/train/{cat,dog}/*.png and root/test/...; dogs are dark, cats bright."""
    for split, count in (("train", train), ("test", test)):
        for label, name in enumerate(("cat", "dog")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                image = smooth_image(100 * label + i, side, side).point(
                    lambda v, label=label: v // 3 + (0 if label else 160)
                )
                (folder / f"{i:03}.png").write_bytes(encode(image))
    return root


class ImageSource:
    """A source in memory, the label in the red channel."""

    def __init__(self, count: int, side: int = 8):
        self.side, self.count = side, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < self.count:
            raise IndexError(index)
        image = Image.new("RGB", (self.side, self.side), (index, 255 - index, 0))
        return {"image": encode(image), "label": index, "name": f"image {index}"}
