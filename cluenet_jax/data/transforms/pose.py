"""Crops of posed objects: rotated rectangles of an aspect, drawn at random or fixed.

Source: mmpose's top-down transforms (0.28), in their order: shift, horizontal flip, half body,
scale and rotation.
"""

import dataclasses

import numpy as np
from PIL import Image

# Keypoints of a half that it needs to be drawn, and to be drawn whichever it is.
_FEWEST, _ENOUGH = 2, 3
# What surrounds the half of a body, in place of the padding of boxes.
_HALF_PADDING = 1.5


@dataclasses.dataclass(frozen=True)
class CropGeometry:
    """A rectangle of an image, and how it becomes the image that a model sees.

    Attributes:
      center: x and y, in pixels of the image (its first pixel's center is 0), mirrored or not.
      width: Of the rectangle, in pixels of the image.
      size: Height and width of the result, whose aspect the rectangle has.
      degrees: That the rectangle is turned by, about its center.
      flip: Whether the image is mirrored before.
    """

    center: tuple[float, float]
    width: float
    size: tuple[int, int]
    degrees: float = 0.0
    flip: bool = False

    @property
    def factor(self) -> float:
        """Pixels of the image per pixel of the result."""
        return self.width / self.size[1]

    @property
    def area(self) -> float:
        """Of the rectangle, in pixels of the image."""
        return self.width**2 * self.size[0] / self.size[1]

    def _rotation(self) -> np.ndarray:
        angle = np.radians(self.degrees)
        return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])

    @property
    def _middle(self) -> np.ndarray:
        return np.array(self.size[::-1]) / 2

    def apply_image(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 `[H, W, 3]` to uint8 `[*size, 3]`, bilinear, 0 outside of the image."""
        if self.flip:
            pixels = pixels[:, ::-1]
        back = self._rotation().T * self.factor
        # Pillow counts from a pixel's corner, the transform from its center.
        shift = np.array(self.center) - back @ self._middle + 0.5 - back @ np.array([0.5, 0.5])
        matrix = (*back[0], shift[0], *back[1], shift[1])
        image = Image.fromarray(np.ascontiguousarray(pixels))
        moved = image.transform(
            self.size[::-1], Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
        )
        return np.asarray(moved)

    def apply_points(self, points: np.ndarray, width: int) -> np.ndarray:
        """Points float `[K, 2]`, x and y in an image of a width, to float64 of the result.

        Which keypoints are the mirrored ones' is not said here.
        """
        points = np.asarray(points, np.float64)
        if self.flip:
            points = np.stack([width - 1 - points[:, 0], points[:, 1]], axis=1)
        return (points - self.center) @ self._rotation().T / self.factor + self._middle


def crop_of_box(
    box: tuple[float, float, float, float], size: tuple[int, int], padding: float
) -> CropGeometry:
    """The rectangle of a box, widened along one axis to an aspect, then padded.

    Args:
      box: x1, y1, x2, y2.
      size: Height and width of the result.
      padding: What the box's sides are multiplied with.
    """
    x1, y1, x2, y2 = box
    width = _width_of(x2 - x1, y2 - y1, size) * padding
    return CropGeometry(((x1 + x2) / 2, (y1 + y2) / 2), max(width, 1.0), size)


def _width_of(width: float, height: float, size: tuple[int, int]) -> float:
    """Of the least rectangle of an aspect around one of a width and a height."""
    return max(width, height * size[1] / size[0])


def draw_crop(
    crop: CropGeometry,
    points: np.ndarray,
    image_width: int,
    rng: np.random.Generator,
    *,
    order: np.ndarray,
    upper: np.ndarray,
    shift: float = 0.16,
    shift_prob: float = 0.3,
    flip_prob: float = 0.5,
    half_body_prob: float = 0.3,
    half_body_points: int = 8,
    scale: float = 0.5,
    rotation: float = 40.0,
    rotation_prob: float = 0.6,
) -> tuple[CropGeometry, np.ndarray]:
    """Changes a crop at random.

    Args:
      crop: Of the object's box.
      points: float32 `[K, 3]`, x, y, and whether labeled, in pixels of the image.
      image_width: In pixels.
      rng: Source of the draws.
      order: int `[K]`, which keypoint each one is in a mirrored image.
      upper: bool `[K]`, the keypoints of the upper half of the body.
      shift: Bound of the shift along each axis, a fraction of the rectangle's side.
      shift_prob: Of the shift.
      flip_prob: Of the horizontal flip.
      half_body_prob: Of a rectangle of half the body alone, of one with more labeled keypoints than
        `half_body_points`.
      half_body_points: See there.
      scale: Deviation of the normal factor of the size, and how far from 1 it may be.
      rotation: Deviation of the normal angle in degrees; twice of it is the most.
      rotation_prob: Of the rotation.

    Returns:
      The crop, and the points float32 `[K, 3]` in its result, those of a mirrored image in each
      other's places.
    """
    center, width, flip = np.array(crop.center), crop.width, False
    aspect = crop.size[0] / crop.size[1]
    if rng.random() < shift_prob:
        center = center + rng.uniform(-1, 1, 2) * shift * np.array([width, width * aspect])
    if rng.random() < flip_prob:
        flip = True
        center[0] = image_width - 1 - center[0]
    mirrored = points[order] if flip else points
    labeled = mirrored[:, 2] > 0
    if labeled.sum() > half_body_points and rng.random() < half_body_prob:
        places = np.array(mirrored[:, :2], np.float64)
        if flip:
            places[:, 0] = image_width - 1 - places[:, 0]
        half = _draw_half(labeled, upper, rng)
        if half.sum() >= _FEWEST:
            center = places[half].mean(0)
            width = _width_of(*np.ptp(places[half], axis=0), crop.size) * _HALF_PADDING
    width *= np.clip(1 + scale * rng.standard_normal(), 1 - scale, 1 + scale)
    degrees = np.clip(rotation * rng.standard_normal(), -2 * rotation, 2 * rotation)
    if rng.random() >= rotation_prob:
        degrees = 0.0
    drawn = CropGeometry(tuple(center.tolist()), max(width, 1.0), crop.size, float(degrees), flip)
    moved = drawn.apply_points(mirrored[:, :2], image_width)
    return drawn, np.concatenate([moved, mirrored[:, 2:]], axis=1).astype(np.float32)


def _draw_half(labeled: np.ndarray, upper: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """bool `[K]`: the labeled keypoints of one half, mostly of the upper one."""
    halves = (labeled & upper, labeled & ~upper)
    # As published: a normal number below a half, so two times of three.
    if rng.standard_normal() < 0.5 and halves[0].sum() >= _ENOUGH:
        return halves[0]
    return halves[1] if halves[1].sum() >= _ENOUGH else halves[0]
