"""Semantic segmentation: a class for each pixel."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from PIL import Image

from cluenet_jax import ops
from cluenet_jax.data import IGNORED, DatasetInfo, decode_pair, image_size
from cluenet_jax.data.records import Example, Record
from cluenet_jax.data.transforms import (
    Window,
    align_size,
    draw_geometry,
    fit_size,
    pad_bottom_right,
    photometric_distortion,
    resample_mask,
    resize_to_fit,
)
from cluenet_jax.metrics.segmentation import SegmentationEvaluator
from cluenet_jax.models.heads import HEADS
from cluenet_jax.settings import (
    check_settings,
    flag,
    integer,
    interval,
    number,
    one_of,
    require,
    several,
)
from cluenet_jax.tasks.base import Apply, Batch, Means, Predictions
from cluenet_jax.tasks.configured import ClassifierRows, DenseTask
from cluenet_jax.tasks.segmentation_result import SegmentationResult

_AUGMENT = {
    "scale": several(integer(1), 2),
    "scale_ratio": interval(number(above=0)),
    "max_class_fraction": number(above=0, most=1),
    "flip_prob": number(least=0, most=1),
    "photometric": flag(),
}
_OWN = {
    "denominator": one_of(ops.DENOMINATORS),
    "class_weights": several(number(above=0), least=0),
    "auxiliary_weight": number(least=0),
    "eval_scale": several(integer(1), 2),
    "eval_multiple": integer(1),
    "eval_ratios": several(number(above=0)),
    "eval_flip": flag(),
    "slide_crop": integer(0),
    "slide_stride": integer(0),
}


@dataclasses.dataclass(frozen=True)
class Segmentation(DenseTask):
    """The task; see `cluenet_jax.tasks.base.Task`."""

    name: ClassVar[str] = "segmentation"
    best_metric: ClassVar[str] = "miou"
    heads: ClassVar[tuple[str, ...]] = ("semantic_fpn", "upernet")
    torch_classifiers: ClassVar = {"decode_head.conv_seg.weight": ClassifierRows()}
    torch_dataset: ClassVar[str] = "ade20k"
    torch_image_size: ClassVar[int] = 512
    train_metrics: ClassVar[tuple[str, ...]] = ("loss", "aacc")

    @staticmethod
    def default_config() -> dict[str, Any]:
        """The sections `augment` and `segmentation`, the head and the dataset."""
        return dict(
            model=dict(head="semantic_fpn"),
            data=dict(name="digit_scenes"),
            augment=dict(
                # On the host. Bounds of the longer and the shorter side before the crop of
                # data.image_size, times a random ratio.
                scale=(2048, 512),
                scale_ratio=(0.5, 2.0),
                # Crops with more of one class are drawn again; 1: none is.
                max_class_fraction=0.75,
                flip_prob=0.5,
                # Brightness, contrast, saturation and hue.
                photometric=True,
            ),
            segmentation=dict(
                # What the loss is divided by: "labeled" pixels, or "all", as mmsegmentation does.
                denominator="labeled",
                # By which the pixels of each class count in the loss; all alike if empty.
                class_weights=(),
                # Of the loss of UperNet's auxiliary head.
                auxiliary_weight=0.4,
                # Images are evaluated whole, as large as these bounds of the longer and the
                # shorter side allow; then both sides are stretched up to a multiple of
                # eval_multiple: every size is a program of its own.
                eval_scale=(2048, 512),
                eval_multiple=32,
                # Views whose probabilities are averaged: ratios of eval_scale, and mirrored.
                eval_ratios=(1.0,),
                eval_flip=False,
                # Side and step of windows that are evaluated one by one; 0: the whole image.
                slide_crop=0,
                slide_stride=0,
            ),
        )

    @classmethod
    def check_config(cls, config: ml_collections.ConfigDict) -> None:
        """Raises a UserError for a value in these sections that cannot be meant."""
        super().check_config(config)
        check_settings(config.augment, "augment", _AUGMENT)
        own = config.segmentation
        check_settings(own, "segmentation", _OWN)
        require(
            own.slide_stride <= own.slide_crop and bool(own.slide_stride) == bool(own.slide_crop),
            "segmentation.slide_stride",
            own.slide_stride,
            f"must be 1 .. slide_crop={own.slide_crop}, or 0 if that is 0",
        )

    @classmethod
    def create(cls, config: ml_collections.ConfigDict, info: DatasetInfo) -> Self:
        """The task of a checked configuration and a dataset; UserError if they do not fit."""
        weights = config.segmentation.class_weights
        require(
            len(weights) in (0, info.num_classes),
            "segmentation.class_weights",
            weights,
            f"must have a value for each of the {info.num_classes} classes, or none",
        )
        return super().create(config, info)

    def train_example(self, record: Record, rng: np.random.Generator) -> Example:
        """`image` uint8 `[S, S, 3]` and `mask` uint8 `[S, S]`."""
        augment, size = self.config.augment, (self.config.data.image_size,) * 2
        image, mask = decode_pair(record)
        geometry = draw_geometry(
            mask,
            rng,
            scale=augment.scale,
            ratio=augment.scale_ratio,
            crop=size,
            max_class_fraction=augment.max_class_fraction,
            flip_prob=augment.flip_prob,
        )
        image, mask = geometry.apply_image(image), geometry.apply_mask(mask)
        if augment.photometric:
            image = photometric_distortion(image, rng)
        fill = tuple(round(255 * value) for value in self.info.mean)
        image, mask = pad_bottom_right(image, mask, size, fill)
        return {"image": image, "mask": mask}

    def eval_example(self, record: Record) -> Example:
        """`image`, and `image1`, ... of further ratios; `mask` uint8 on its canvas; `size`."""
        image, mask = decode_pair(record)
        canvas = np.full(_canvas(mask.shape), IGNORED, np.uint8)
        canvas[: mask.shape[0], : mask.shape[1]] = mask
        return {**self._views_of(image), "mask": canvas}

    def see(self, image: Image.Image) -> np.ndarray:
        """An image as large as the first view of an evaluation."""
        (_, scale), *_ = self._eval_scales()
        return resize_to_fit(np.asarray(image), scale, self.config.segmentation.eval_multiple)

    def see_mask(self, mask: Image.Image) -> np.ndarray:
        """A mask resized as `see` does."""
        size = self._view_sizes((mask.height, mask.width))["image"]
        return resample_mask(np.asarray(mask), Window.whole(size))

    def unlabeled_example(self, image: Image.Image) -> Example:
        """`image`, and `image1`, ... of further ratios; `size`; `canvas`, for its shape."""
        pixels = np.asarray(image)
        return {**self._views_of(pixels), "canvas": np.empty(_canvas(pixels.shape[:2]), bool)}

    def _views_of(self, image: np.ndarray) -> Example:
        """The views of an image, and its `size`."""
        views = {
            name: resize_to_fit(image, scale, self.config.segmentation.eval_multiple)
            for name, scale in self._eval_scales()
        }
        return {**views, "size": np.array(image.shape[:2], np.int32)}

    def eval_shape(self, record: Record) -> tuple:
        """The sizes of the views and of the mask's canvas."""
        size = image_size(record["image"], record["name"])
        return _canvas(size), *self._view_sizes(size).values()

    def _eval_scales(self) -> list[tuple[str, tuple[int, int]]]:
        """Names of the views, and the bounds of their sides."""
        own = self.config.segmentation
        return [
            (f"image{i or ''}", tuple(int(side * ratio) for side in own.eval_scale))
            for i, ratio in enumerate(own.eval_ratios)
        ]

    def _view_sizes(self, size: tuple[int, int]) -> dict[str, tuple[int, int]]:
        """Names and sizes of the views of an image."""
        multiple = self.config.segmentation.eval_multiple
        return {
            name: align_size(fit_size(size, scale), multiple) for name, scale in self._eval_scales()
        }

    def example_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """`image` and `mask` of training."""
        height, width, _ = self.preprocessing.shape
        return {
            "image": jax.ShapeDtypeStruct((height, width, 3), jnp.uint8),
            "mask": jax.ShapeDtypeStruct((height, width), jnp.uint8),
        }

    def eval_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """As `eval_example` of an image of aspect 4:3, as large as is evaluated."""
        size = fit_size((3, 4), self.config.segmentation.eval_scale)
        views = {
            name: jax.ShapeDtypeStruct((*view, 3), jnp.uint8)
            for name, view in self._view_sizes(size).items()
        }
        return {
            **views,
            "mask": jax.ShapeDtypeStruct(_canvas(size), jnp.uint8),
            "size": jax.ShapeDtypeStruct((2,), jnp.int32),
        }

    def loss(self, apply: Apply, batch: Batch) -> tuple[jax.Array, Means]:
        """Cross-entropy of the pixels, in nats; `aacc` counts the labeled ones."""
        own, labels = self.config.segmentation, batch["mask"]

        def mean(logits: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            resized = ops.resize_bilinear(logits, labels.shape[1:])
            sums, counts = ops.segmentation_loss(
                resized, labels, IGNORED, own.denominator, own.class_weights
            )
            count = counts.sum()
            return sums.sum(), jnp.where(count > 0, count, 1), resized

        if HEADS[self.config.model.head].auxiliary:
            logits, auxiliary = apply(batch["image"], auxiliary=True)
            total, count, _ = mean(auxiliary)
            extra = own.auxiliary_weight * total / count
        else:
            logits, extra = apply(batch["image"]), 0.0
        total, count, resized = mean(logits)
        labeled = labels != IGNORED
        right = (resized.argmax(-1) == labels) & labeled
        num_labeled = jnp.maximum(labeled.sum(dtype=jnp.float32), 1)
        return total / count + extra, {
            "loss": (total, count),
            "aacc": (right.sum(dtype=jnp.float32), num_labeled),
        }

    def predict(self, apply: Apply, batch: Batch) -> Predictions:
        """`confusion` int32 `[B, C, C]` and `loss` `[B]`, or without `mask` in the batch `classes`.

        `classes` is uint8 `[B, H, W]` on the canvas, of which each image fills its `size`.
        """
        views = []
        for name, _ in self._eval_scales():
            views += self._views(apply, self.preprocessing.normalize(batch[name]))
        if "mask" not in batch:
            size = batch["size"]
            classes, _ = ops.dense_predictions(views, size, batch["canvas"].shape[1:])
            return {"classes": classes.astype(jnp.uint8), "size": size}
        labels = batch["mask"]
        classes, loss = ops.dense_predictions(views, batch["size"], labels.shape[1:], labels)
        confusion = ops.confusion_matrix(classes, labels, self.info.num_classes, IGNORED)
        return {"confusion": confusion, "loss": loss}

    def _views(self, apply: Apply, images: jax.Array) -> list[ops.View]:
        """The logits of images `[B, H, W, 3]`, and of them mirrored."""
        own = self.config.segmentation

        def logits(images: jax.Array) -> jax.Array:
            if own.slide_crop:
                return ops.in_windows(apply, images, own.slide_crop, own.slide_stride)
            return apply(images)

        views = [logits(images)]
        if own.eval_flip:
            views.append(logits(images[:, :, ::-1])[:, :, ::-1])
        return [ops.View(view, images.shape[1:3]) for view in views]

    def score(self, apply: Apply, images: jax.Array, targets: jax.Array) -> jax.Array:
        """The mean probability of each image's target class over its pixels."""
        probabilities = self._mean_probabilities(apply, images)
        return jnp.take_along_axis(probabilities, targets[:, None], axis=-1)[:, 0]

    def best_targets(self, apply: Apply, images: jax.Array) -> jax.Array:
        """The classes of the highest mean probability."""
        return self._mean_probabilities(apply, images).argmax(-1).astype(jnp.int32)

    def _mean_probabilities(self, apply: Apply, images: jax.Array) -> jax.Array:
        return jax.nn.softmax(apply(images)).mean(axis=(1, 2))

    def evaluator(self) -> SegmentationEvaluator:
        """An empty evaluator."""
        return SegmentationEvaluator(self.info.class_names)

    def to_results(self, predictions: Mapping[str, np.ndarray]) -> list[SegmentationResult]:
        """One result for each image."""
        return [
            SegmentationResult(np.asarray(classes[:height, :width]), self.info)
            for classes, (height, width) in zip(
                predictions["classes"], predictions["size"], strict=True
            )
        ]

    def draw(self, image: Image.Image, result: SegmentationResult) -> Image.Image:
        """The colors of the classes over the image, half transparent, as large as the mask."""
        colors = result.images()["_mask"].convert("RGB")
        return Image.blend(image.convert("RGB").resize(colors.size), colors, 0.5)

    def mask_of_record(self, record: Record) -> np.ndarray:
        """The record's mask."""
        mask = self.see_mask(Image.fromarray(decode_pair(record)[1])).astype(np.int32)
        return np.where(mask == IGNORED, -1, mask)

    def outputs(self, head_output: jax.Array) -> dict[str, jax.Array]:
        """`mask` uint8 `[B, S, S]` of the image's size, and `logits` float32 of the first level."""
        size = self.preprocessing.shape[:2]
        mask = ops.resize_bilinear(head_output, size).argmax(-1).astype(jnp.uint8)
        return {"mask": mask, "logits": head_output}


def _canvas(size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns, a little larger than an image, that many sizes share."""

    def side(pixels: int) -> int:
        step = max(2 ** (pixels.bit_length() - 2), 32)
        return -(-pixels // step) * step

    return side(size[0]), side(size[1])
