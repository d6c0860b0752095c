"""Instance detection: a box, a class and, with masks, the pixels of each object."""

import dataclasses
import functools
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from PIL import Image

from cluenet_jax.data import decode_instances, encode_truth
from cluenet_jax.data.records import Example, Record, Source
from cluenet_jax.data.transforms import (
    bitmaps_shape,
    draw_steps,
    fit_size,
    is_wide,
    list_canvases,
    move_image,
    pad_image,
    pick_canvas,
    resize_steps,
    truth_slots,
)
from cluenet_jax.metrics.detection import DetectionEvaluator
from cluenet_jax.models.heads.truths import Truths
from cluenet_jax.settings import check_settings, integer, number, require, several
from cluenet_jax.tasks.base import Apply, Batch, Means, Predictions
from cluenet_jax.tasks.configured import ClassifierRows, DenseTask
from cluenet_jax.tasks.detection_result import DetectionResult

_PROPOSAL_LOSSES = ("rpn_objectness", "rpn_box")
# The length of most truths of an evaluation, see `encode_truth`.
_TRUTH_LENGTH = 4096
_AUGMENT = {
    "long_side": integer(1),
    "short_sides": several(integer(1)),
    "flip_prob": number(least=0, most=1),
    "crop_prob": number(least=0, most=1),
    "crop_short_sides": several(integer(1)),
    "crop_sides": several(integer(1), 2),
}
_OWN = {
    "num_slots": integer(1),
    "eval_scale": several(integer(1), 2),
    "canvas_steps": integer(1),
}


@dataclasses.dataclass(frozen=True)
class Detection(DenseTask):
    """The task; see `cluenet_jax.tasks.base.Task`."""

    name: ClassVar[str] = "detection"
    best_metric: ClassVar[str] = "box_ap"
    heads: ClassVar[tuple[str, ...]] = ("mask_rcnn", "retinanet")
    torch_classifiers: ClassVar = {
        # The background is the last one.
        "roi_head.bbox_head.fc_cls.weight": ClassifierRows(besides=1),
        # A cell has nine anchors.
        "bbox_head.retina_cls.weight": ClassifierRows(per_class=9),
    }
    torch_dataset: ClassVar[str] = "coco"
    torch_image_size: ClassVar[int] = 800

    @staticmethod
    def default_config() -> dict[str, Any]:
        """The sections `augment` and `detection`, the head and the dataset."""
        return dict(
            model=dict(head="mask_rcnn"),
            data=dict(name="digit_scenes"),
            augment=dict(
                # On the host. Images are resized to the largest size within bounds of the longer
                # and the shorter side, one of those given.
                long_side=1333,
                short_sides=(800,),
                flip_prob=0.5,
                # Images of which a part is resized: of one of these shorter sides before, the
                # part of a height and a width between crop_sides.
                crop_prob=0.0,
                crop_short_sides=(400, 500, 600),
                crop_sides=(384, 600),
            ),
            detection=dict(
                # Objects of an image that are learned; of more, those of the largest boxes.
                num_slots=100,
                # Bounds of the longer and the shorter side in an evaluation.
                eval_scale=(1333, 800),
                # Canvases of landscape images, and of the others: each is a program of its own,
                # and padding costs time.
                canvas_steps=1,
            ),
        )

    @classmethod
    def check_config(cls, config: ml_collections.ConfigDict) -> None:
        """Raises a UserError for a value in these sections that cannot be meant."""
        super().check_config(config)
        check_settings(config.augment, "augment", _AUGMENT)
        check_settings(config.detection, "detection", _OWN)
        longest = max(config.augment.short_sides)
        require(
            longest <= config.augment.long_side,
            "augment.long_side",
            config.augment.long_side,
            f"must be at least the largest of augment.short_sides, {longest}",
        )

    @property
    def masks(self) -> bool:
        """Whether masks are learned and evaluated."""
        model = self.config.model
        return model.head == "mask_rcnn" and model.mask_rcnn.masks is not False

    @property
    def train_metrics(self) -> tuple[str, ...]:
        """The loss and its parts."""
        proposals = _PROPOSAL_LOSSES if self.config.model.head == "mask_rcnn" else ()
        return ("loss", *proposals, "class", "box", *(("mask",) if self.masks else ()))

    # On the host.

    @functools.cached_property
    def _train_canvases(self) -> list[tuple[int, int]]:
        augment = self.config.augment
        return list_canvases((augment.long_side, max(augment.short_sides)))

    @functools.cached_property
    def _eval_canvases(self) -> list[tuple[int, int]]:
        own = self.config.detection
        return list_canvases(tuple(own.eval_scale), steps=own.canvas_steps)

    def train_groups(self, source: Source) -> Sequence[Hashable] | None:
        """Wide images apart from the others, since they take other canvases."""
        if len(self._train_canvases) == 1:
            return None
        return [is_wide(size) for size in source.sizes]

    def train_example(self, record: Record, rng: np.random.Generator) -> Example:
        """`image` uint8 on its canvas, its `size`, and the slots of `truth_slots`."""
        augment, own = self.config.augment, self.config.detection
        image, instances = decode_instances(record)
        longer, size = augment.long_side, image.shape[:2]
        landscape, portrait = self._train_canvases[0], self._train_canvases[-1]
        canvas = landscape if is_wide(size) else portrait
        steps = draw_steps(
            size,
            rng,
            scales=[(longer, side) for side in augment.short_sides],
            flip_prob=augment.flip_prob,
            crop_prob=augment.crop_prob,
            crop_scales=[(longer, side) for side in augment.crop_short_sides],
            crop_sides=tuple(augment.crop_sides),
            canvas=canvas,
        )
        slots = truth_slots(
            instances,
            size,
            steps,
            num_slots=own.num_slots,
            canvas=canvas if self.masks else None,
            name=record["name"],
        )
        return {**self._on_canvas(move_image(image, steps), canvas), **slots}

    def eval_example(self, record: Record) -> Example:
        """`image` uint8 on its canvas, its `size`, and its `truth` as text."""
        image, _ = decode_instances(record)
        return {**self._seen(image), "truth": encode_truth(record, self.masks)}

    def eval_shape(self, record: Record) -> tuple:
        """The canvas, and the length of the truth."""
        size = fit_size(record["size"], tuple(self.config.detection.eval_scale))
        return pick_canvas(size, self._eval_canvases), len(encode_truth(record, self.masks))

    def see(self, image: Image.Image) -> np.ndarray:
        """An image of the size of an evaluation, without padding."""
        return self._resized(np.asarray(image))

    def _resized(self, pixels: np.ndarray) -> np.ndarray:
        scale = tuple(self.config.detection.eval_scale)
        return move_image(pixels, resize_steps(pixels.shape[:2], scale))

    def unlabeled_example(self, image: Image.Image) -> Example:
        """`image` on its canvas, its `size` there, and its `original` height and width."""
        original = np.array((image.height, image.width), np.int32)
        return {**self._seen(np.asarray(image)), "original": original}

    def shown_size(self, example: Example) -> tuple[int, int]:
        """The image's size on its canvas."""
        height, width = example["size"]
        return int(height), int(width)

    def _seen(self, pixels: np.ndarray) -> Example:
        seen = self._resized(pixels)
        return self._on_canvas(seen, pick_canvas(seen.shape[:2], self._eval_canvases))

    def _on_canvas(self, image: np.ndarray, canvas: tuple[int, int]) -> Example:
        size = np.array(image.shape[:2], np.int32)
        return {"image": pad_image(image, canvas, (0, 0, 0)), "size": size}

    def example_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Of a landscape image in training."""
        canvas, slots = self._train_canvases[0], self.config.detection.num_slots
        spec = {
            "boxes": jax.ShapeDtypeStruct((slots, 4), jnp.float32),
            "labels": jax.ShapeDtypeStruct((slots,), jnp.int32),
            "present": jax.ShapeDtypeStruct((slots,), bool),
        }
        if self.masks:
            spec["bitmaps"] = jax.ShapeDtypeStruct(bitmaps_shape(slots, canvas), jnp.uint8)
        return {**_image_spec(canvas), **spec}

    def eval_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Of the largest landscape image in an evaluation."""
        truth = jax.ShapeDtypeStruct((_TRUTH_LENGTH,), jnp.uint8)
        landscape = [canvas for canvas in self._eval_canvases if canvas[1] >= canvas[0]]
        return {**_image_spec(landscape[-1]), "truth": truth}

    # On the devices.

    def normalized(self, batch: Batch) -> jax.Array:
        """float32 `[B, H, W, 3]`, zero beyond the images' sizes."""
        images, sizes = batch["image"], batch["size"]
        rows, columns = (jnp.arange(side) for side in images.shape[1:3])
        inside = (rows[:, None] < sizes[:, :1, None]) & (columns < sizes[:, 1:, None])
        return jnp.where(inside[..., None], self.preprocessing.normalize(images), 0)

    def loss(self, apply: Apply, batch: Batch) -> tuple[jax.Array, Means]:
        """The sum of the head's losses, and each of them."""
        truths = Truths(batch["boxes"], batch["labels"], batch["present"], batch.get("bitmaps"))
        losses = apply(batch["image"], method="losses", truths=truths, image_sizes=batch["size"])
        losses = {"loss": sum(losses.values()), **losses}
        return losses["loss"], {name: (value, jnp.ones(())) for name, value in losses.items()}

    def predict(self, apply: Apply, batch: Batch) -> Predictions:
        """What the head detects; of images without a truth with `size` and `original`."""
        detections = apply(self.normalized(batch), image_sizes=batch["size"])
        if "truth" in batch:
            return detections
        return {**detections, "size": batch["size"], "original": batch["original"]}

    def score(self, apply: Apply, images: jax.Array, targets: jax.Array) -> jax.Array:
        """The highest score of a detection of each image's target class, 0 if there is none."""
        detections = apply(images)
        own = detections["valid"] & (detections["labels"] == targets[:, None])
        return jnp.max(jnp.where(own, detections["scores"], 0), axis=-1)

    def best_targets(self, apply: Apply, images: jax.Array) -> jax.Array:
        """The classes of the best detections; class 0 where there is none."""
        return apply(images)["labels"][:, 0]

    # On the host.

    def evaluator(self) -> DetectionEvaluator:
        """An empty evaluator."""
        return DetectionEvaluator(self.info.class_names, self.masks)

    def to_results(self, predictions: Mapping[str, np.ndarray]) -> list[DetectionResult]:
        """One result for each image, in pixels of the image itself."""
        rows = range(len(predictions["valid"]))
        return [
            DetectionResult.of_slots({k: v[row] for k, v in predictions.items()}, self.info)
            for row in rows
        ]

    def draw(self, image: Image.Image, result: DetectionResult) -> Image.Image:
        """Boxes, masks and classes on the image, as large as it was given."""
        seen = image.convert("RGB")
        if image.size != result.size[::-1]:
            seen = seen.crop((0, 0, *result.seen[::-1])).resize(result.size[::-1])
        return result.drawn_on(seen)

    def outputs(self, head_output: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """What the head detects, by name."""
        return head_output


def _image_spec(canvas: tuple[int, int]) -> dict[str, jax.ShapeDtypeStruct]:
    return {
        "image": jax.ShapeDtypeStruct((*canvas, 3), jnp.uint8),
        "size": jax.ShapeDtypeStruct((2,), jnp.int32),
    }
