"""Classification: one of a set of classes per image."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from PIL import Image, ImageDraw, ImageFont

from cluenet_jax.data import (
    ERASE_MODES,
    INTERPOLATIONS,
    augment_images,
    decode_image,
    mix,
)
from cluenet_jax.data.records import Example, Record
from cluenet_jax.data.transforms import color_jitter, rand_augment, random_resized_crop, resize
from cluenet_jax.metrics.classification import ClassificationEvaluator
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
from cluenet_jax.tasks.base import Apply, Batch, Means, Predictions, Result
from cluenet_jax.tasks.configured import ClassifierRows, ConfiguredTask

_AUGMENT = {
    "crop_padding": integer(0),
    "horizontal_flip": flag(),
    "erase_prob": number(least=0, most=1),
    "erase_area": interval(number(above=0, most=1)),
    "erase_aspect": interval(number(above=0)),
    "erase_mode": one_of(ERASE_MODES),
    "crop_area": interval(number(least=0, most=1)),
    "crop_interpolation": one_of(INTERPOLATIONS),
    "color_jitter": several(number(least=0), 4),
    "rand_augment": several(number(least=0, most=10), 2),
    "mixup": number(least=0),
    "cutmix": number(least=0),
}
_OWN = {"label_smoothing": number(least=0, below=1)}


@dataclasses.dataclass(frozen=True)
class ClassificationResult(Result):
    """What a classifier says of one image.

    Attributes:
      probabilities: float32 `[classes]`.
      class_names: By label.
    """

    probabilities: np.ndarray
    class_names: tuple[str, ...]

    def entries(self) -> list[tuple[str, float]]:
        """All classes with their probabilities, best first."""
        order = np.argsort(-self.probabilities, kind="stable")
        return [(self.class_names[i], float(self.probabilities[i])) for i in order]

    def to_json(self, max_entries: int) -> dict[str, Any]:
        """`{"predictions": [{"class": ..., "probability": ...}, ...]}`, best first."""
        entries = self.entries()[:max_entries]
        return {"predictions": [{"class": name, "probability": round(p, 6)} for name, p in entries]}

    def to_rows(self, max_entries: int) -> list[dict[str, Any]]:
        """Rows of `rank`, `class` and `probability`."""
        rows = self.to_json(max_entries)["predictions"]
        return [{"rank": rank, **row} for rank, row in enumerate(rows, 1)]


@dataclasses.dataclass(frozen=True)
class Classification(ConfiguredTask):
    """The task; see `cluenet_jax.tasks.base.Task`."""

    name: ClassVar[str] = "classification"
    best_metric: ClassVar[str] = "top1"
    heads: ClassVar[tuple[str, ...]] = ("linear",)
    torch_classifiers: ClassVar = {
        "head.weight": ClassifierRows(),
        "head.fc.weight": ClassifierRows(),
    }
    train_metrics: ClassVar[tuple[str, ...]] = ("loss", "top1")

    @staticmethod
    def default_config() -> dict[str, Any]:
        """The sections `augment` and `classification`."""
        return dict(
            augment=dict(
                # On the device, inside the jitted step.
                crop_padding=0,
                horizontal_flip=False,
                erase_prob=0.0,
                erase_area=(0.02, 0.2),
                erase_aspect=(0.3, 3.3),
                erase_mode="zeros",
                # Parameters of the Beta distributions, 0: off.
                mixup=0.0,
                cutmix=0.0,
                # On the host, while decoding. (0, 0) and zeros: off.
                crop_area=(0.0, 0.0),
                crop_interpolation="bilinear",
                # Brightness, contrast, saturation, hue.
                color_jitter=(0.0, 0.0, 0.0, 0.0),
                # Magnitude, 0 .. 10, and how much it varies.
                rand_augment=(0.0, 0.0),
            ),
            classification=dict(
                # Fraction of the target that is spread over all classes.
                label_smoothing=0.0,
            ),
        )

    @classmethod
    def check_config(cls, config: ml_collections.ConfigDict) -> None:
        """Raises a UserError for a value in these sections that cannot be meant."""
        super().check_config(config)
        augment = config.augment
        check_settings(augment, "augment", _AUGMENT)
        check_settings(config.classification, "classification", _OWN)
        area = augment.crop_area
        require(not any(area) or all(area), "augment.crop_area", area, "must be above 0, or (0, 0)")
        hue = augment.color_jitter[3]
        require(hue <= 0.5, "augment.color_jitter", augment.color_jitter, "hue is at most 0.5")
        on_host = {
            "crop_area": any(area),
            "color_jitter": any(augment.color_jitter),
            "rand_augment": augment.rand_augment[0] > 0,
        }
        random = [name for name, used in on_host.items() if used]
        require(
            not (config.data.cache and random),
            "data.cache",
            True,
            f"augment.{', '.join(random)} change every image each time it is read; leave it False",
        )

    def train_example(self, record: Record, rng: np.random.Generator) -> Example:
        """`image` uint8 `[S, S, 3]` and `label` int32."""
        augment, size = self.config.augment, self.config.data.image_size
        image = decode_image(record["image"], record["name"])
        if any(augment.crop_area):
            image = random_resized_crop(
                image, size, rng, augment.crop_area, interpolation=augment.crop_interpolation
            )
        else:
            image = resize(image, size, augment.crop_interpolation)
        if any(augment.color_jitter):
            image = color_jitter(image, rng, *augment.color_jitter)
        if augment.rand_augment[0]:
            fill = tuple(round(255 * value) for value in self.info.mean)
            image = rand_augment(image, rng, *augment.rand_augment, fill)
        return {"image": np.asarray(image), "label": np.int32(record["label"])}

    def eval_example(self, record: Record) -> Example:
        """`image` uint8 `[S, S, 3]` and `label` int32."""
        image = self.preprocessing(decode_image(record["image"], record["name"]))
        return {"image": image, "label": np.int32(record["label"])}

    def example_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """`image` and `label`."""
        image = jax.ShapeDtypeStruct(self.preprocessing.shape, jnp.uint8)
        return {"image": image, "label": jax.ShapeDtypeStruct((), jnp.int32)}

    def augment(self, key: jax.Array, batch: Batch) -> Batch:
        """Adds `target` float32 `[B, classes]`; `image` becomes float32, normalized."""
        augment = self.config.augment
        image_key, mix_key = jax.random.split(key)
        images = augment_images(
            image_key,
            batch["image"],
            crop_padding=augment.crop_padding,
            horizontal_flip=augment.horizontal_flip,
            erase_prob=augment.erase_prob,
            erase_area=augment.erase_area,
            erase_aspect=augment.erase_aspect,
            erase_mode=augment.erase_mode,
            normalize=self.preprocessing.normalize,
        )
        targets = jax.nn.one_hot(batch["label"], len(self.info.class_names))
        targets = optax.smooth_labels(targets, self.config.classification.label_smoothing)
        images, targets = mix(mix_key, images, targets, augment.mixup, augment.cutmix)
        return {**batch, "image": images, "target": targets}

    def loss(self, apply: Apply, batch: Batch) -> tuple[jax.Array, Means]:
        """Cross-entropy with soft targets, in nats; `top1` counts the original labels."""
        logits = apply(batch["image"])
        losses = optax.softmax_cross_entropy(logits, batch["target"])
        right = (logits.argmax(-1) == batch["label"]).astype(jnp.float32)
        count = jnp.float32(losses.size)
        return losses.mean(), {"loss": (losses.sum(), count), "top1": (right.sum(), count)}

    def predict(self, apply: Apply, batch: Batch) -> Predictions:
        """`probabilities` float32 `[B, classes]`, and what `ClassificationEvaluator` counts.

        Without `label` in the batch, the probabilities alone.
        """
        logits = apply(self.preprocessing.normalize(batch["image"]))
        probabilities = jax.nn.softmax(logits)
        if "label" not in batch:
            return {"probabilities": probabilities}
        own = jnp.take_along_axis(logits, batch["label"][:, None], axis=-1)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        return {
            "prediction": logits.argmax(-1).astype(jnp.int32),
            # NaN logits are never right.
            "rank": jnp.sum(~(logits < own), axis=-1, dtype=jnp.int32) - 1,
            "confidence": probabilities.max(-1),
            "loss": losses,
        }

    def score(self, apply: Apply, images: jax.Array, targets: jax.Array) -> jax.Array:
        """The probability of each image's target class."""
        probabilities = jax.nn.softmax(apply(images))
        return jnp.take_along_axis(probabilities, targets[:, None], axis=-1)[:, 0]

    def best_targets(self, apply: Apply, images: jax.Array) -> jax.Array:
        """The predicted classes."""
        return apply(images).argmax(-1).astype(jnp.int32)

    def evaluator(self) -> ClassificationEvaluator:
        """An empty evaluator."""
        return ClassificationEvaluator(self.info.class_names)

    def to_results(self, predictions: Mapping[str, np.ndarray]) -> list[ClassificationResult]:
        """One result for each image."""
        rows = np.asarray(predictions["probabilities"])
        return [ClassificationResult(row, self.info.class_names) for row in rows]

    def draw(self, image: Image.Image, result: ClassificationResult) -> Image.Image:
        """The best class and its probability below the image."""
        font = ImageFont.load_default(13)
        name, probability = result.entries()[0]
        text = f"{name} {probability:.1%}"
        width = max(image.width, round(font.getlength(text)) + 8)
        canvas = Image.new("RGB", (width, image.height + 20), "white")
        canvas.paste(image)
        ImageDraw.Draw(canvas).text((4, image.height + 2), text, "black", font)
        return canvas

    def target_of_path(self, path: str) -> str | None:
        """The name of the image's folder, if it is a class."""
        folder = pathlib.Path(path).parent.name
        return folder if folder in self.info.class_names else None

    def target_of_record(self, record: Record) -> str | None:
        """The record's class."""
        return self.info.class_names[record["label"]]

    def outputs(self, head_output: jax.Array) -> dict[str, jax.Array]:
        """`logits` float32 `[B, classes]`."""
        return {"logits": head_output}
