"""Pose estimation: where the keypoints of an object in a given box are, by heatmaps."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from PIL import Image

from cluenet_jax import ops
from cluenet_jax.data import DATASETS, DatasetInfo, decode_image
from cluenet_jax.data.instances import decode_sized, padded_text
from cluenet_jax.data.poses import (
    CropSource,
    PoseSource,
    detected_crops,
    encode_poses,
    eval_crops,
    training_crops,
    true_crops,
)
from cluenet_jax.data.records import Example, Record
from cluenet_jax.data.skeletons import Skeleton
from cluenet_jax.data.transforms import CropGeometry, crop_of_box, draw_crop
from cluenet_jax.errors import ImageError, UserError
from cluenet_jax.metrics.keypoints import PoseEvaluator, Selection
from cluenet_jax.models.settings import model_from_config
from cluenet_jax.settings import check_settings, require
from cluenet_jax.tasks import pose_settings
from cluenet_jax.tasks.base import Apply, Batch, Means, Predictions
from cluenet_jax.tasks.configured import ClassifierRows, DenseTask
from cluenet_jax.tasks.pose_result import PoseResult

# The truth of a crop that brings none.
_NO_TRUTH = padded_text("")


@dataclasses.dataclass(frozen=True)
class Pose(DenseTask):
    """The task; see `cluenet_jax.tasks.base.Task`. Its targets are the keypoints."""

    name: ClassVar[str] = "pose"
    best_metric: ClassVar[str] = "ap"
    train_metrics: ClassVar[tuple[str, ...]] = ("loss",)
    heads: ClassVar[tuple[str, ...]] = ("heatmap_deconv", "heatmap_fpn", "heatmap_mta")
    torch_classifiers: ClassVar = {"head.final_layer.weight": ClassifierRows()}
    torch_dataset: ClassVar[str] = "coco_keypoints"
    torch_image_size: ClassVar[int] = 256

    @staticmethod
    def default_config() -> dict[str, Any]:
        """The sections `augment` and `pose`, the head, the dataset, the boxes of an evaluation."""
        return pose_settings.default_sections()

    @classmethod
    def check_config(cls, config: ml_collections.ConfigDict) -> None:
        """Raises a UserError for a value in these sections that cannot be meant."""
        super().check_config(config)
        check_settings(config.augment, "augment", pose_settings.AUGMENT)
        check_settings(config.eval, "eval", pose_settings.EVAL)
        check_settings(config.pose, "pose", pose_settings.OWN)
        size = tuple(config.pose.crop_size)
        stride = model_from_config(config.model, num_classes=1).backbone.strides[-1]
        require(
            all(side % stride == 0 for side in size),
            "pose.crop_size",
            size,
            f"height and width must be multiples of {stride}, the stride of the last level of "
            f"{config.model.backbone}",
        )

    @classmethod
    def info_of_weights(
        cls, weights: Mapping[str, np.ndarray], dataset: str, names: list[str] | None
    ) -> DatasetInfo:
        """The keypoints of the last layer's rows, with the dataset's skeleton or `names`."""
        info = super().info_of_weights(weights, dataset, names)
        if names:
            return dataclasses.replace(info, skeleton=Skeleton.of_names(info.class_names))
        own = DATASETS[dataset].num_classes
        if own not in (None, info.num_classes):
            raise UserError(
                f"has {info.num_classes} keypoints, {dataset} has {own}; say which dataset it was "
                "trained on, or the names of its keypoints."
            )
        return info

    @property
    def skeleton(self) -> Skeleton:
        """Of the dataset."""
        return self.info.skeleton or Skeleton.of_names(self.info.class_names)

    @property
    def crop_size(self) -> tuple[int, int]:
        """Height and width of the crops."""
        height, width = self.config.pose.crop_size
        return height, width

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Of a crop."""
        return (*self.crop_size, 3)

    # On the host.

    def train_source(self, source: PoseSource) -> CropSource:
        """The poses of the images that can be learned."""
        return training_crops(source, self.skeleton.is_required())

    def eval_source(self, source: PoseSource) -> CropSource:
        """The boxes of the images, the true ones or a detector's."""
        if boxes := self.config.eval.boxes:
            return eval_crops(source, detected_crops(source, boxes, self.skeleton.kind))
        return eval_crops(source, true_crops(source, self.skeleton.is_required()))

    def _crop(self, box: Sequence[float]) -> CropGeometry:
        return crop_of_box(tuple(map(float, box)), self.crop_size, self.config.pose.padding)

    def train_example(self, record: Record, rng: np.random.Generator) -> Example:
        """`image` uint8, a crop; `points` float32 `[K, 2]` in it; `visible` float32 `[K]`."""
        pixels, skeleton = decode_sized(record), self.skeleton
        crop, points = draw_crop(
            self._crop(record["box"]),
            record["points"],
            pixels.shape[1],
            rng,
            order=skeleton.mirrored,
            upper=skeleton.is_upper(),
            **self.config.augment,
        )
        visible = (points[:, 2] > 0).astype(np.float32)
        return {"image": crop.apply_image(pixels), "points": points[:, :2], "visible": visible}

    def eval_example(self, record: Record) -> Example:
        """`image` uint8, a crop, and what `PoseEvaluator` says that a batch has."""
        pixels, box = decode_sized(record), record["box"]
        # Without a box the example only brings its image's truth.
        crop = self._crop((0, 0, 1, 1) if box is None else box)
        points, count = record["points"], len(self.skeleton)
        own = np.zeros((count, 3), np.float32) if points is None else points
        truth = record["truth"]
        return {
            **_seen(crop, pixels),
            "box_score": np.float32(-1 if box is None else record["box_score"]),
            "image_index": np.int32(record["image_index"]),
            "own": own.ravel(),
            "height": np.float32(0 if box is None else box[3] - box[1]),
            "truth": _NO_TRUTH if truth is None else encode_poses(truth),
        }

    def eval_shape(self, record: Record) -> tuple:
        """The length of the truth."""
        truth = record["truth"]
        return (len(_NO_TRUTH if truth is None else encode_poses(truth)),)

    def see(self, image: Image.Image) -> np.ndarray:
        """A crop of the whole image."""
        return self.unlabeled_example(image)["image"]

    def see_record(self, record: Record) -> np.ndarray:
        """A crop of the record's box."""
        return self.example_of_record(record)["image"]

    def see_mask(self, mask: Image.Image) -> np.ndarray:
        """A mask is not cropped as an image is."""
        raise ImageError("Masks are compared with the maps of whole images; a pose has crops.")

    def unlabeled_example(self, image: Image.Image) -> Example:
        """`image`, a crop of the whole image; where it lies; `original` height and width."""
        return self.region_example(image, (0, 0, *image.size), 1.0)

    def region_example(self, image: Image.Image, box: Sequence[float], score: float) -> Example:
        """The same of a box, with its `box_score`."""
        original = np.array((image.height, image.width), np.int32)
        seen = _seen(self._crop(box), np.asarray(image))
        return {**seen, "box_score": np.float32(score), "original": original}

    def shown_image(self, image: Image.Image, example: Example) -> np.ndarray:
        """The image itself: its poses are in its own pixels."""
        return np.asarray(image)

    def example_of_record(self, record: Record) -> Example:
        """The record's box; the whole image where it has none."""
        image = decode_image(record["image"], record["name"])
        return self.region_example(image, record["box"] or (0, 0, *image.size), 1.0)

    @property
    def region_kind(self) -> str:
        """What has these keypoints."""
        return self.skeleton.kind

    def example_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Of a crop in training."""
        count = self.info.num_classes
        return {
            "image": jax.ShapeDtypeStruct(self.image_shape, jnp.uint8),
            "points": jax.ShapeDtypeStruct((count, 2), jnp.float32),
            "visible": jax.ShapeDtypeStruct((count,), jnp.float32),
        }

    def eval_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Of most crops in an evaluation."""
        scalars = dict.fromkeys(("factor", "area", "box_score", "height"), jnp.float32)
        return {
            "image": jax.ShapeDtypeStruct(self.image_shape, jnp.uint8),
            "center": jax.ShapeDtypeStruct((2,), jnp.float32),
            **{name: jax.ShapeDtypeStruct((), dtype) for name, dtype in scalars.items()},
            "image_index": jax.ShapeDtypeStruct((), jnp.int32),
            "own": jax.ShapeDtypeStruct((3 * self.info.num_classes,), jnp.float32),
            "truth": jax.ShapeDtypeStruct(_NO_TRUTH.shape, jnp.uint8),
        }

    def set_image_size(self, config: ml_collections.ConfigDict, image_size: int) -> None:
        """`image_size` becomes the height of the crops, the width changes in proportion."""
        height, width = self.crop_size
        stride = self.build_model().backbone.strides[-1]
        width = max(round(width * image_size / height / stride), 1) * stride
        config.pose.crop_size = (image_size, width)
        config.data.image_size, config.eval.resize = image_size, 0

    # On the devices.

    def loss(self, apply: Apply, batch: Batch) -> tuple[jax.Array, Means]:
        """The mean of the squared differences of the heatmaps."""
        heatmaps, sigma = apply(batch["image"]), self.config.pose.sigma
        size = heatmaps.shape[1:3]
        truth, stride = (batch["points"], batch["visible"]), self.crop_size[0] / size[0]
        targets, weights = ops.heatmap_targets(*truth, size, stride, sigma)
        loss = ops.heatmap_loss(heatmaps, targets, weights * batch["valid"][:, None])
        return loss, {"loss": (loss, jnp.ones(()))}

    def predict(self, apply: Apply, batch: Batch) -> Predictions:
        """`points` `[B, K, 2]` in the crops and `scores` `[B, K]`; of images where they lie."""
        images = self.normalized(batch)
        heatmaps = apply(images)
        if self.config.pose.eval_flip:
            mirrored = apply(images[:, :, ::-1])
            heatmaps = ops.merge_mirrored(heatmaps, mirrored, self.skeleton.mirrored)
        predictions = self._decoded(heatmaps)
        if "truth" in batch:
            return predictions
        names = ("center", "factor", "area", "box_score", "original")
        return {**predictions, **{name: batch[name] for name in names}}

    def score(self, apply: Apply, images: jax.Array, targets: jax.Array) -> jax.Array:
        """The highest value of the heatmap of each image's target keypoint, within 0 .. 1."""
        heights = apply(images).max((1, 2))
        own = jnp.take_along_axis(heights, targets[:, None], axis=-1)[:, 0]
        return own.clip(0, 1)

    def best_targets(self, apply: Apply, images: jax.Array) -> jax.Array:
        """The keypoints of the highest values."""
        return apply(images).max((1, 2)).argmax(-1).astype(jnp.int32)

    # On the host.

    def _selection(self) -> Selection:
        own = self.config.pose
        return Selection(own.least_score, own.max_similarity)

    def evaluator(self) -> PoseEvaluator:
        """An empty evaluator."""
        skeleton = self.skeleton
        return PoseEvaluator(skeleton.sigmas, skeleton.parts, self.crop_size, self._selection())

    def to_results(self, predictions: Mapping[str, np.ndarray]) -> list[PoseResult]:
        """One result for each crop."""
        rows = range(len(predictions["scores"]))
        make = functools.partial(PoseResult.of_crop, skeleton=self.skeleton, crop=self.crop_size)
        return [make({k: v[row] for k, v in predictions.items()}) for row in rows]

    def merge(self, results: Sequence[PoseResult], size: tuple[int, int]) -> PoseResult:
        """The poses of all boxes of one image, scored, the best of similar ones kept."""
        return PoseResult.of_boxes(results, size, self.skeleton, self._selection())

    def draw(self, image: Image.Image, result: PoseResult) -> Image.Image:
        """Limbs and keypoints."""
        return result.drawn_on(image.convert("RGB").resize(result.size[::-1]))

    def outputs(self, head_output: jax.Array) -> dict[str, jax.Array]:
        """`heatmaps` `[B, h, w, K]`, `points` `[B, K, 2]` in the crop, `scores` `[B, K]`."""
        return {"heatmaps": head_output, **self._decoded(head_output)}

    def _decoded(self, heatmaps: jax.Array) -> Predictions:
        together = self.config.pose.quarter_shift == "together"
        places, scores = ops.decode_heatmaps(heatmaps, together=together)
        return {"points": places * (self.crop_size[0] / heatmaps.shape[1]), "scores": scores}


def _seen(crop: CropGeometry, pixels: np.ndarray) -> Example:
    """`image`, and `center`, `factor` and `area` of the crop."""
    return {
        "image": crop.apply_image(pixels),
        "center": np.array(crop.center, np.float32),
        "factor": np.float32(crop.factor),
        "area": np.float32(crop.area),
    }
