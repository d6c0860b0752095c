"""Scenes composed of the scanned digits, with masks and boxes; no download."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from cluenet_jax.data.datasets.digits import read_scans, select_split
from cluenet_jax.data.datasets.ground import encode_png, textured_ground
from cluenet_jax.data.datasets.info import Opened
from cluenet_jax.data.decode_mask import MaskFormat
from cluenet_jax.data.instances import Instances
from cluenet_jax.data.records import Record
from cluenet_jax.data.rle import encode_bitmap

# The label of a digit is the digit + 1.
CLASS_NAMES = ("background", *"0123456789")
# The numbers of the scenes of each split.
SPLITS = {"train": range(2000), "test": range(2000, 2200)}
_FORMAT = MaskFormat(tuple(range(len(CLASS_NAMES))))
# Gray level of an enlarged scan from which a pixel is the digit's, and the width of its edge.
_THRESHOLD, _EDGE = 80.0, 64.0
# Bounds of the ground's mean color, and how much brighter a digit is than that at least.
_GROUND, _CONTRAST = (20, 100), 100


@dataclasses.dataclass(frozen=True)
class Scene:
    """A scene of N digits.

    Attributes:
      image: uint8 `[S, S, 3]`.
      mask: uint8 `[S, S]`: 0 background, 1 .. 10 the digits 0 .. 9.
      labels: int32 `[N]`, 1 .. 10.
      instances: bool `[N, S, S]`: the pixels of each digit.
    """

    image: np.ndarray
    mask: np.ndarray
    labels: np.ndarray
    instances: np.ndarray

    @property
    def boxes(self) -> np.ndarray:
        """float32 `[N, 4]`: x1, y1, x2, y2 around the pixels of each; the right and lower edges."""
        rows = []
        for pixels in self.instances:
            ys, xs = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
            rows.append((xs[0], ys[0], xs[-1] + 1, ys[-1] + 1))
        return np.array(rows, np.float32).reshape(-1, 4)

    def to_instances(self) -> Instances:
        """The digits as detection's truth. No instance is of class 0, the background."""
        return Instances(
            self.boxes.astype(np.float64),
            self.labels,
            self.instances.sum(axis=(1, 2), dtype=np.float64),
            np.zeros(len(self.labels), bool),
            tuple(map(encode_bitmap, self.instances)),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class SceneSource:
    """Random access to scenes, each made when it is read, of its number alone.

    A scene is divided into square cells. Some hold a digit each, which lies anywhere in its cell.

    Attributes:
      numbers: Of the scenes; those of one split of `SPLITS` share no scan with the other's.
      scans: uint8 `[n, 8, 8]`, gray levels.
      digits: int32 `[n]`.
      scans_of: The indices of the scans of each split.
      side: Of a scene, in pixels.
      cells: Number of rows of cells, and of columns.
      num_digits: Bounds of the number of digits, at most `cells` squared.
      digit_side: Bounds of the height and of the width of a digit, in pixels, at most a cell's.
    """

    numbers: Sequence[int]
    scans: np.ndarray
    digits: np.ndarray
    scans_of: Mapping[str, Sequence[int]]
    side: int = 64
    cells: int = 2
    num_digits: tuple[int, int] = (3, 4)
    digit_side: tuple[int, int] = (28, 32)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of each scene, making none."""
        return [(self.side, self.side)] * len(self)

    def __getitem__(self, index: int) -> Record:
        """`image`, `mask`, `mask_format`, `name`; `image_id`, `size` and `instances`."""
        scene = self.scene(index)
        return {
            "image": encode_png(scene.image),
            "mask": encode_png(scene.mask),
            "mask_format": _FORMAT,
            "name": f"digit_scenes[{self.numbers[index]}]",
            "image_id": self.numbers[index],
            "size": scene.mask.shape,
            "instances": scene.to_instances(),
        }

    def scene(self, index: int) -> Scene:
        """The scene of an index, as arrays."""
        number = self.numbers[index]
        scans = self.scans_of["train" if number in SPLITS["train"] else "test"]
        rng = np.random.default_rng(number)
        image, brightness = textured_ground(rng, (self.side, self.side), _GROUND)
        count = rng.integers(self.num_digits[0], self.num_digits[1] + 1)
        chosen = rng.choice(scans, count)
        labels = self.digits[chosen] + 1
        instances = np.zeros((count, self.side, self.side), bool)
        cells = rng.choice(self.cells**2, count, replace=False)
        for instance, scan, cell in zip(instances, chosen, cells, strict=True):
            weight = self._enlarged(self.scans[scan], rng)
            window = self._place(int(cell), weight.shape, rng)
            instance[window] = weight >= 0.5
            _paint(image[window], weight, _ink(rng, brightness))
        mask = (instances * labels[:, None, None]).sum(0).astype(np.uint8)
        pixels = np.rint(image).clip(0, 255).astype(np.uint8)
        return Scene(pixels, mask, labels, instances)

    def _enlarged(self, scan: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """float32 `[h, w]` in 0 .. 1: how much of each pixel of a random size is the digit's."""
        size = rng.integers(self.digit_side[0], self.digit_side[1] + 1, 2).tolist()
        gray = np.asarray(Image.fromarray(scan).resize(size, Image.Resampling.BICUBIC), np.float32)
        return ((gray - _THRESHOLD) / _EDGE + 0.5).clip(0, 1)

    def _place(
        self, cell: int, size: tuple[int, int], rng: np.random.Generator
    ) -> tuple[slice, slice]:
        """Rows and columns of a random place in a cell."""
        (row, column), side = divmod(cell, self.cells), self.side // self.cells
        height, width = size
        top = side * row + int(rng.integers(side - height + 1))
        left = side * column + int(rng.integers(side - width + 1))
        return slice(top, top + height), slice(left, left + width)


def open_digit_scenes(data_dir: str = "", train_split: str = "", eval_split: str = "") -> Opened:
    """2,000 scenes of the 1,437 training digits and 200 of the 360 others.

    Args:
      data_dir: Not used.
      train_split, eval_split: TFDS split expressions; "train" and "test" if empty.

    Raises:
      DatasetError: There is no such split.
    """
    scans, digits, scans_of = read_scans()
    gray = np.rint(scans * (255 / 16)).astype(np.uint8)

    def open_split(split: str) -> SceneSource:
        numbers = select_split("digit_scenes", SPLITS, split)
        return SceneSource(numbers, gray, digits.astype(np.int32), scans_of)

    return Opened(CLASS_NAMES, open_split(train_split or "train"), open_split(eval_split or "test"))


def _ink(rng: np.random.Generator, brightness: float) -> np.ndarray:
    """A color each of whose channels is brighter than the ground's mean."""
    return rng.uniform(brightness + _CONTRAST, 255, 3).astype(np.float32)


def _paint(pixels: np.ndarray, weight: np.ndarray, color: np.ndarray) -> None:
    pixels += weight[..., None] * (color - pixels)
