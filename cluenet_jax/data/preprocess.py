"""Preprocessing of images for a model: the same in evaluation, prediction and export."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from cluenet_jax.data.transforms.geometry import resize, resize_and_center_crop


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Resizing and normalization of images.

    Attributes:
      image_size: Side of the square that models see, in pixels.
      resize: Shorter side before the center crop; 0 resizes straight to `image_size`.
      interpolation: One of `transforms.INTERPOLATIONS`.
      mean, std: Of RGB, in 0 .. 1.
    """

    image_size: int
    resize: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, image: Image.Image) -> np.ndarray:
        """An image of any size as uint8 `[image_size, image_size, 3]`.

        A gray image, such as a mask, becomes `[image_size, image_size]`.
        """
        if self.resize:
            image = resize_and_center_crop(image, self.resize, self.image_size, self.interpolation)
        return np.asarray(resize(image, self.image_size, self.interpolation))

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(image_size, image_size, 3)`, of a prepared image."""
        return (self.image_size, self.image_size, 3)

    def normalize(self, images: jax.Array) -> jax.Array:
        """`(image / 255 - mean) / std`: uint8 `[..., 3]` to float32 of the same shape."""
        scaled = jnp.asarray(images).astype(jnp.float32) / 255
        return (scaled - jnp.asarray(self.mean, jnp.float32)) / jnp.asarray(self.std, jnp.float32)

    def with_size(self, image_size: int) -> "Preprocessing":
        """The same for another image size; `resize` changes in proportion."""
        shorter = round(self.resize * image_size / self.image_size)
        return dataclasses.replace(self, image_size=image_size, resize=shorter)

    def to_json(self) -> dict[str, Any]:
        """All fields as plain numbers, strings and lists."""
        return {**dataclasses.asdict(self), "mean": [*self.mean], "std": [*self.std]}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Preprocessing":
        """The inverse of `to_json`."""
        return cls(**{**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])})
