"""Pictures and small datasets made by code, for the tests."""

import io
import pathlib

import numpy as np
from PIL import Image

from cluenet_jax.config import default_config


def picture(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    """A smooth RGB picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, format: str = "PNG", **options) -> bytes:
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
                image = picture(100 * label + i, side, side).point(
                    lambda v, label=label: v // 3 + (0 if label else 160)
                )
                (folder / f"{i:03}.png").write_bytes(encode(image))
    return root


class Pictures:
    """A source in memory."""

    def __init__(self, count: int, side: int = 8):
        self.side, self.count = side, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < self.count:
            raise IndexError(index)
        image = Image.new("RGB", (self.side, self.side), (index, 255 - index, 0))
        return {"image": encode(image), "label": index, "name": f"picture {index}"}


def data_config(**values):
    """`config.data` of 8-pixel pictures, with some values changed."""
    data = default_config().data
    data.image_size = 8
    augment = values.pop("augment", {})
    data.update(values)
    data.augment.update(augment)
    return data
