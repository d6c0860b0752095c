"""Articulated figures on a textured ground, with known joints, boxes and masks; no download."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from cluenet_jax.data.datasets.digits import select_split
from cluenet_jax.data.datasets.ground import encode_png, textured_ground
from cluenet_jax.data.datasets.info import Opened
from cluenet_jax.data.instances import Instances
from cluenet_jax.data.poses import Poses
from cluenet_jax.data.records import Record
from cluenet_jax.data.rle import encode_bitmap
from cluenet_jax.data.skeletons import FIGURE

# The numbers of the scenes of each split.
SPLITS = {"train": range(1500), "test": range(1500, 1650)}
# Height and width of a scene, and of the part of it that a figure is in.
SIZE, PART = (128, 160), 80
_GROUND = (40, 200)
# Bounds of a figure's height in pixels, and how far its colors are from the ground's at least.
_HEIGHT, _CONTRAST = (80, 112), 60
# In units of the height.
_HEAD, _WIDTHS = 0.065, {"arm": 0.035, "leg": 0.05, "trunk": 0.06}
# Larger drawings are made smaller, for smooth edges.
_ENLARGED = 3


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure that faces the viewer: its left is on the image's right.

    Attributes:
      joints: float64 `[14, 2]`, x and y in pixels, as `skeletons.FIGURE` names them.
      height: In pixels, of the figure if it stood upright.
      colors: Of skin, shirt and trousers.
    """

    joints: np.ndarray
    height: float
    colors: tuple[tuple[int, int, int], ...]

    def paint(self, draw: ImageDraw.ImageDraw, scale: float, mask: bool = False) -> None:
        """Draws it on an image enlarged by `scale`; as a mask, all in white."""
        skin, shirt, trousers = ((255,) * 3,) * 3 if mask else self.colors
        at = self.joints * scale
        unit = self.height * scale

        def limb(first: int, second: int, width: float, color: tuple[int, int, int]) -> None:
            width *= unit
            draw.line([*map(tuple, at[[first, second]])], color, max(round(2 * width), 1))
            for x, y in at[[first, second]]:
                draw.ellipse((x - width, y - width, x + width, y + width), color)

        for hip, knee, ankle in ((8, 10, 12), (9, 11, 13)):
            limb(hip, knee, _WIDTHS["leg"], trousers)
            limb(knee, ankle, _WIDTHS["leg"], trousers)
        draw.polygon([tuple(at[i]) for i in (2, 3, 9, 8)], shirt)
        for first, second in ((2, 3), (8, 9), (2, 8), (3, 9)):
            limb(first, second, _WIDTHS["trunk"], shirt)
        limb(0, 1, _WIDTHS["arm"], skin)
        for shoulder, elbow, wrist in ((2, 4, 6), (3, 5, 7)):
            limb(shoulder, elbow, _WIDTHS["arm"], shirt)
            limb(elbow, wrist, _WIDTHS["arm"], skin)
        (x, y), radius = at[0], _HEAD * unit
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), skin)


@dataclasses.dataclass(frozen=True, eq=False)
class FigureImages:
    """Random access to scenes of one or two figures, each made of its number alone when it is read.

    A `data.poses.PoseSource`; records have `instances` besides.

    Attributes:
      numbers: Of the scenes.
    """

    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def image_ids(self) -> list[int]:
        """The scenes' numbers."""
        return [*self.numbers]

    @property
    def names(self) -> list[str]:
        """As if scenes were files."""
        return [f"figures_{number}.png" for number in self.numbers]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of each scene."""
        return [SIZE] * len(self)

    @functools.cached_property
    def poses(self) -> list[Poses]:
        """Of each scene."""
        return [_instances_and_poses(number)[1] for number in self.numbers]

    def __getitem__(self, index: int) -> Record:
        """`image`, `name`, `image_id`, `size`, `poses` and `instances`."""
        number = self.numbers[index]
        instances, poses = _instances_and_poses(number)
        return {
            "image": _encoded_scene(number),
            "name": self.names[index],
            "image_id": number,
            "size": SIZE,
            "poses": poses,
            "instances": instances,
        }


def open_figures(data_dir: str = "", train_split: str = "", eval_split: str = "") -> Opened:
    """The poses of 1,500 scenes to learn from and 150 others.

    Args:
      data_dir: Not used.
      train_split, eval_split: TFDS split expressions; "train" and "test" if empty.

    Raises:
      DatasetError: There is no such split.
    """
    splits = (train_split or "train", eval_split or "test")
    train, test = (FigureImages(select_split("figures", SPLITS, split)) for split in splits)
    return Opened(FIGURE.names, train, test, skeleton=FIGURE)


def open_figure_boxes(data_dir: str = "", train_split: str = "", eval_split: str = "") -> Opened:
    """The same scenes for detection: the figures' boxes and masks."""
    opened = open_figures(data_dir, train_split, eval_split)
    return Opened((FIGURE.kind,), opened.train, opened.eval)


def draw_figures(number: int) -> tuple[list[Figure], np.ndarray]:
    """The figures of a scene, and its ground, float32 `[*SIZE, 3]`."""
    rng = np.random.default_rng(number)
    ground, _ = textured_ground(rng, SIZE, _GROUND)
    mean = ground.mean((0, 1))
    parts = rng.permutation(SIZE[1] // PART)[: rng.integers(1, 3)]
    return [_draw_figure(rng, int(part), mean) for part in sorted(parts)], ground


def paint_scene(number: int) -> np.ndarray:
    """uint8 `[*SIZE, 3]`."""
    figures, ground = draw_figures(number)
    pixels = Image.fromarray(np.rint(ground).clip(0, 255).astype(np.uint8))
    large = pixels.resize((SIZE[1] * _ENLARGED, SIZE[0] * _ENLARGED), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(large)
    for figure in figures:
        figure.paint(draw, _ENLARGED)
    return np.asarray(large.resize(SIZE[::-1], Image.Resampling.BOX))


# 100 MB for all; a scene is read in every epoch, for each of its figures.
@functools.cache
def _encoded_scene(number: int) -> bytes:
    return encode_png(paint_scene(number))


@functools.cache
def _instances_and_poses(number: int) -> tuple[Instances, Poses]:
    figures, _ = draw_figures(number)
    masks = []
    for figure in figures:
        canvas = Image.new("RGB", SIZE[::-1])
        figure.paint(ImageDraw.Draw(canvas), 1.0, mask=True)
        masks.append(np.asarray(canvas)[..., 0] > 0)
    # A figure in front hides what is behind it.
    for index, mask in enumerate(masks):
        for front in masks[index + 1 :]:
            mask &= ~front
    boxes = np.array([_box(mask) for mask in masks], np.float64)
    areas = np.array([mask.sum() for mask in masks], np.float64)
    crowd = np.zeros(len(figures), bool)
    points = np.stack([figure.joints for figure in figures]).astype(np.float32)
    labeled = np.full((*points.shape[:2], 1), 2, np.float32)
    instances = Instances(
        boxes, np.zeros(len(figures), np.int32), areas, crowd, tuple(map(encode_bitmap, masks))
    )
    return instances, Poses(boxes, np.concatenate([points, labeled], 2), areas, crowd)


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return xs[0], ys[0], xs[-1] + 1, ys[-1] + 1


def _draw_figure(rng: np.random.Generator, part: int, ground: np.ndarray) -> Figure:
    """A figure whose joints are all inside of the scene."""
    colors = tuple(_color(rng, ground) for _ in range(3))
    while True:
        height = rng.uniform(*_HEIGHT)
        joints = _draw_joints(rng) * height
        margin = _HEAD * height + 1
        sides = np.ptp(joints, axis=0) + 2 * margin
        room = np.array([SIZE[1], SIZE[0]]) - sides
        if (room < 0).any() or sides[0] > 1.3 * PART:
            continue
        center = (part + 0.5) * PART
        left = np.clip(center - sides[0] / 2 + rng.uniform(-8, 8), 0, room[0])
        top = rng.uniform(0, room[1])
        corner = np.array([left, top]) + margin
        return Figure(joints - joints.min(0) + corner, height, colors)


def _draw_joints(rng: np.random.Generator) -> np.ndarray:
    """float64 `[14, 2]` in units of the height, around any origin."""
    lean = np.radians(rng.uniform(-20, 20))
    joints = np.zeros((14, 2))
    joints[[0, 1]] = (0, -0.46), (0, -0.34)
    for side, sign in ((0, 1), (1, -1)):
        joints[2 + side], joints[8 + side] = (sign * 0.11, -0.31), (sign * 0.07, 0)
        # From straight down, outward and up.
        arm, bend = np.radians(rng.uniform((-10, -30), (150, 100)))
        joints[4 + side] = joints[2 + side] + 0.17 * _direction(arm, sign)
        joints[6 + side] = joints[4 + side] + 0.16 * _direction(arm + bend, sign)
        leg, knee = np.radians(rng.uniform((-5, -35), (40, 10)))
        joints[10 + side] = joints[8 + side] + 0.24 * _direction(leg, sign)
        joints[12 + side] = joints[10 + side] + 0.23 * _direction(leg + knee, sign)
    turn = np.array([[np.cos(lean), np.sin(lean)], [-np.sin(lean), np.cos(lean)]])
    return joints @ turn


def _direction(angle: float, sign: int) -> np.ndarray:
    return np.array([sign * np.sin(angle), np.cos(angle)])


def _color(rng: np.random.Generator, ground: np.ndarray) -> tuple[int, int, int]:
    """A color that differs from the ground's mean."""
    while True:
        color = rng.integers(0, 256, 3)
        if np.abs(color - ground).max() >= _CONTRAST:
            return tuple(color.tolist())
