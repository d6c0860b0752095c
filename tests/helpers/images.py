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


def mask_folder(
    root: pathlib.Path, splits: tuple[str, ...] = ("train", "val"), count: int = 3, values: int = 3
) -> pathlib.Path:
    """root/{images,annotations}/SPLIT/{0,1,...}.{jpg,png}, 40x30; no list of classes."""
    for split in splits:
        for kind in ("images", "annotations"):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            image = encode(smooth_image(i), "JPEG")
            (root / "images" / split / f"{i}.jpg").write_bytes(image)
            mask = Image.fromarray(stripes(values))
            (root / "annotations" / split / f"{i}.png").write_bytes(encode(mask))
    return root


def stripes(values: int, height: int = 30, width: int = 40) -> np.ndarray:
    """uint8 `[height, width]`: vertical stripes of the values 0, 1, ... from left to right."""
    row = np.arange(width) * values // width
    return np.broadcast_to(row, (height, width)).astype(np.uint8)
