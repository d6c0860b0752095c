"""Scenes composed of the scanned digits, with masks and boxes; no download."""

import dataclasses
import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from cluenet_jax.data.datasets.digits import read_scans, select_split
from cluenet_jax.data.datasets.info import Opened
from cluenet_jax.data.decode_mask import MaskFormat
from cluenet_jax.data.records import Record

# The label of a digit is the digit + 1.
CLASS_NAMES = ("background", *"0123456789")
# The numbers of the scenes of each split.
SPLITS = {"train": range(2000), "test": range(2000, 2200)}
_FORMAT = MaskFormat(tuple(range(len(CLASS_NAMES))))
# Gray level of an enlarged scan from which a pixel is the digit's, and the width of its edge.
_THRESHOLD, _EDGE = 90.0, 64.0
# Fraction of the smaller of two digits that may be covered, and the places tried to keep to it.
_OVERLAP, _ATTEMPTS = 0.1, 8


@dataclasses.dataclass(frozen=True)
class Scene:
    """A scene of N digits.

    Attributes:
      image: uint8 `[S, S, 3]`.
      mask: uint8 `[S, S]`: 0 background, 1 .. 10 the digits 0 .. 9.
      labels: int32 `[N]`, 1 .. 10.
      instances: bool `[N, S, S]`: the pixels of each digit that no later one covers.
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


@dataclasses.dataclass(frozen=True, eq=False)
class SceneSource:
    """Random access to scenes, each made when it is read, of its number alone.

    Attributes:
      numbers: Of the scenes; those of one split of `SPLITS` share no scan with the other's.
      scans: uint8 `[n, 8, 8]`, gray levels.
      digits: int32 `[n]`.
      scans_of: The indices of the scans of each split.
      side: Of a scene, in pixels.
      num_digits: Bounds of the number of digits; fewer where they find no place.
      digit_side: Bounds of the height and of the width of a digit, in pixels, at most `side`.
    """

    numbers: Sequence[int]
    scans: np.ndarray
    digits: np.ndarray
    scans_of: Mapping[str, Sequence[int]]
    side: int = 96
    num_digits: tuple[int, int] = (1, 4)
    digit_side: tuple[int, int] = (32, 64)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Record:
        """`image`, `mask`, `mask_format`, `name`; `labels`, `boxes` and `instances` of `Scene`."""
        scene = self.scene(index)
        return {
            "image": _encode(scene.image),
            "mask": _encode(scene.mask),
            "mask_format": _FORMAT,
            "name": f"digit_scenes[{self.numbers[index]}]",
            "labels": scene.labels,
            "boxes": scene.boxes,
            "instances": scene.instances,
        }

    def scene(self, index: int) -> Scene:
        """The scene of an index, as arrays."""
        number = self.numbers[index]
        scans = self.scans_of["train" if number in SPLITS["train"] else "test"]
        rng = np.random.default_rng(number)
        image, brightness = _ground(rng, self.side)
        mask = np.zeros((self.side, self.side), np.uint8)
        # Of each pixel: the number of the digit on it, from 1.
        owner = np.zeros_like(mask)
        labels: list[int] = []
        for _ in range(rng.integers(self.num_digits[0], self.num_digits[1] + 1)):
            scan = scans[rng.integers(len(scans))]
            weight = self._enlarged(self.scans[scan], rng)
            own = weight >= 0.5
            window = _free_window(owner, own, rng)
            if window is None:
                continue
            labels.append(int(self.digits[scan]) + 1)
            owner[window][own] = len(labels)
            mask[window][own] = labels[-1]
            _paint(image[window], weight, _ink(rng, brightness))
        instances = owner == np.arange(1, len(labels) + 1)[:, None, None]
        pixels = np.rint(image).clip(0, 255).astype(np.uint8)
        return Scene(pixels, mask, np.array(labels, np.int32), instances)

    def _enlarged(self, scan: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """float32 `[h, w]` in 0 .. 1: how much of each pixel of a random size is the digit's."""
        size = rng.integers(self.digit_side[0], self.digit_side[1] + 1, 2).tolist()
        gray = np.asarray(Image.fromarray(scan).resize(size, Image.Resampling.BICUBIC), np.float32)
        return ((gray - _THRESHOLD) / _EDGE + 0.5).clip(0, 1)


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


def _ground(rng: np.random.Generator, side: int) -> tuple[np.ndarray, float]:
    """float32 `[side, side, 3]`: a color with soft spots and grain; and its mean brightness."""
    spots = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    soft = Image.fromarray(spots).resize((side, side), Image.Resampling.BICUBIC)
    color = rng.uniform(50, 205, 3).astype(np.float32)
    grain = rng.integers(-10, 11, (side, side, 1), dtype=np.int8)
    return color + (np.asarray(soft, np.float32) - 128) * 0.25 + grain, float(color.mean())


def _ink(rng: np.random.Generator, brightness: float) -> np.ndarray:
    """A color that is at least 90 levels darker or brighter than the ground, in each channel."""
    if brightness > 128:
        return rng.uniform(0, brightness - 90, 3).astype(np.float32)
    return rng.uniform(brightness + 90, 255, 3).astype(np.float32)


def _paint(pixels: np.ndarray, weight: np.ndarray, color: np.ndarray) -> None:
    pixels += weight[..., None] * (color - pixels)


def _free_window(
    owner: np.ndarray, own: np.ndarray, rng: np.random.Generator
) -> tuple[slice, slice] | None:
    """A random place for a digit where it covers little of the others; None if none is found."""
    height, width = own.shape
    for _ in range(_ATTEMPTS):
        top, left = (int(rng.integers(len(owner) - side + 1)) for side in (height, width))
        window = (slice(top, top + height), slice(left, left + width))
        covered = np.bincount(owner[window][own], minlength=1)[1:]
        if not covered.any():
            return window
        areas = np.bincount(owner.ravel(), minlength=len(covered) + 1)[1 : len(covered) + 1][
            covered > 0
        ]
        if (covered[covered > 0] <= _OVERLAP * np.minimum(areas, own.sum())).all():
            return window
    return None


def _encode(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    # It is decoded at once, and compressing would take longer than composing the scene.
    Image.fromarray(pixels).save(file, "PNG", compress_level=0)
    return file.getvalue()
