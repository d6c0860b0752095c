"""What a task is: everything that training, evaluation and the tools ask of one.

A task is one frozen dataclass. `train`, `checkpoints`, `data.loader` and `cli` know this
protocol alone, so a new task is a new file here and a line in `cluenet_jax.tasks.TASKS`. What
has a body here is a default that a task may keep.
"""

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import jax
import ml_collections
import numpy as np
from flax import linen as nn
from PIL import Image

from cluenet_jax.data import DatasetInfo, Preprocessing, decode_image
from cluenet_jax.data.records import Example, Record, Source
from cluenet_jax.errors import UserError

# Examples stacked: fixed shapes, leading axis B; always "valid", bool [B].
Batch = dict[str, jax.Array]
# Name -> (sum, count): exact over devices, parts of a batch and steps.
Means = dict[str, tuple[jax.Array, jax.Array]]
# What a model says of a batch: arrays with leading axis B.
Predictions = dict[str, jax.Array]
# The model bound to its variables, random streams and mode: images `[B, H, W, 3]` to the
# head's output.
Apply = Callable[..., Any]


class Result(Protocol):
    """What a model says of one image, for people and programs.

    Attributes:
      least_drawn: Least score, 0 .. 1, of an instance that is drawn; None where the task finds no
        instances.
      has_drawing: Whether a drawing says more than `entries`.
    """

    least_drawn: ClassVar[float | None] = None
    has_drawing: ClassVar[bool] = False

    def entries(self) -> list[tuple[str, float]]:
        """Names with scores in 0 .. 1, best first."""
        ...

    def to_json(self, max_entries: int) -> dict[str, Any]:
        """Plain numbers, lists and dicts."""
        return {"scores": {name: round(score, 6) for name, score in self.entries()[:max_entries]}}

    def to_rows(self, max_entries: int) -> list[dict[str, Any]]:
        """Rows of a table, all with the same columns."""
        entries = self.entries()[:max_entries]
        return [{"name": name, "score": round(score, 6)} for name, score in entries]

    def to_text(self, max_entries: int) -> str:
        """Lines for people, without the image's name."""
        entries = self.entries()[:max_entries]
        return "\n".join(f"  {score:7.2%}  {name}" for name, score in entries)

    def images(self) -> dict[str, Image.Image]:
        """Images that hold the result itself, by what is appended to a file's name."""
        return {}

    def instances(
        self, shape: tuple[int, int], count: int
    ) -> list[tuple[str, float, np.ndarray, np.ndarray]]:
        """The instances that are drawn, in pixels of the image as the model saw it.

        Args:
          shape: Height and width of that image, without padding.
          count: At most how many.

        Returns:
          Best first: the name, the score in 0 .. 1, the box float32 `[4]`, x1, y1, x2, y2, and the
          mask bool `[*shape]`.
        """
        return []

    def regions(self, kind: str, least_score: float) -> list[tuple[tuple[float, ...], float]]:
        """Boxes (x1, y1, x2, y2 in pixels of the image) and scores of what is of a name.

        Best first, those of at least a score.
        """
        raise UserError("does not detect objects, so it cannot say where they are.")

    def keypoints(self, shape: tuple[int, int]) -> list[tuple[str, float, float, float]]:
        """Names, scores, x and y of keypoints, in pixels of the image as the model saw it.

        Args:
          shape: Height and width of that image, without padding.
        """
        return []

    def enlarged(self, side: int) -> "Result":
        """The same of the image with its longer side at least `side`, so that text has room.

        By default itself: not every drawing has text.
        """
        return self


class Evaluator(Protocol):
    """Metrics of a whole set, streamed: it keeps numbers, never outputs on devices."""

    def add(self, predictions: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> None:
        """Counts the valid examples of a batch."""
        ...

    def compute(self) -> dict[str, float]:
        """The metrics of all that was added, among them the task's `best_metric`."""
        ...

    def to_json(self) -> dict[str, Any]:
        """The metrics and their details as plain numbers, lists and dicts."""
        return dict(self.compute())

    def to_text(self) -> str:
        """The metrics and their details as a table for people."""
        return "   ".join(f"{name} {value:.4g}" for name, value in self.compute().items())


class Task(Protocol):
    """A task.

    Attributes:
      name: As in `cluenet_jax.tasks.TASKS`; the name of the task's own config section.
      best_metric: The metric, higher is better, by which the best checkpoint is chosen.
      train_metrics: The names in the `Means` that `loss` returns, "loss" among them.
      target_names: Names of the targets of `score`, by number.
      preprocessing: How images are prepared for evaluation, prediction and export.
    """

    name: ClassVar[str]
    best_metric: ClassVar[str]
    train_metrics: ClassVar[tuple[str, ...]]
    target_names: tuple[str, ...] = ()
    preprocessing: Preprocessing

    @staticmethod
    def default_config() -> dict[str, Any]:
        """The sections `augment` and, under the task's name, the task's own, with defaults."""
        ...

    @staticmethod
    def check_config(config: ml_collections.ConfigDict) -> None:
        """Raises a UserError for a value in one of these sections that cannot be meant."""

    @staticmethod
    def create(config: ml_collections.ConfigDict, info: DatasetInfo) -> "Task":
        """The task of a checked configuration and a dataset."""
        ...

    # Of published weights, where nothing is said: whose normalization they take, and the side of
    # their images.
    torch_dataset: ClassVar[str] = "mini_imagenet"
    torch_image_size: ClassVar[int] = 224

    @classmethod
    def info_of_weights(
        cls, weights: Mapping[str, np.ndarray], dataset: str, names: list[str] | None
    ) -> DatasetInfo:
        """The dataset that a PyTorch state dict was trained on, as far as its tensors say.

        Raises:
          UserError: They are not of this task, or are not as many as `names`.
        """
        raise UserError("hold weights of a task whose weights cannot be converted.")

    def train_source(self, source: Source) -> Source:
        """The records to learn from of a dataset's training split; by default its own."""
        return source

    def eval_source(self, source: Source) -> Source:
        """The records of an evaluation of a dataset's split; by default its own."""
        return source

    def build_model(self) -> nn.Module:
        """The model; its parameters are `{"backbone": ..., "head": ...}`."""
        ...

    # On the host, in the loader's workers: a record becomes an example of fixed shapes.

    def train_example(self, record: Record, rng: np.random.Generator) -> Example:
        """A record, decoded and augmented at random; by default as in evaluation."""
        return self.eval_example(record)

    def eval_example(self, record: Record) -> Example:
        """A record, decoded and prepared for evaluation."""
        ...

    # From a record to what tells apart those whose `eval_example`s differ in shape, a function;
    # None where all are of one shape.
    eval_shape: ClassVar[Callable[[Record], Hashable] | None] = None

    def train_groups(self, source: Source) -> Sequence[Hashable] | None:
        """For each record of a training set its group, where batches must be of one; else None."""
        return None

    def see(self, image: Image.Image) -> np.ndarray:
        """An image of any size as the tools show it to the model: uint8 `[H, W, 3]`."""
        return self.preprocessing(image)

    def see_record(self, record: Record) -> np.ndarray:
        """The same of a record's image, or of the part of it that the record is of."""
        return self.see(decode_image(record["image"], record["name"]))

    def see_mask(self, mask: Image.Image) -> np.ndarray:
        """A gray image of numbers `[H, W]`, cut and resized as `see` does, without mixing them."""
        return dataclasses.replace(self.preprocessing, interpolation="nearest")(mask)

    def unlabeled_example(self, image: Image.Image) -> Example:
        """An image of any size for `predict`: `image`, of `see`, and what else it needs."""
        return {"image": self.see(image)}

    def example_of_record(self, record: Record) -> Example:
        """The same of a record."""
        return self.unlabeled_example(decode_image(record["image"], record["name"]))

    def shown_image(self, image: Image.Image, example: Example) -> np.ndarray:
        """uint8 `[H, W, 3]`: what `predict` draws a result on; by default as the model sees it."""
        return example["image"]

    # Name of the objects that `region_example` is for, as a detector calls them; empty if the task
    # is of whole images.
    region_kind: str = ""

    def region_example(self, image: Image.Image, box: Sequence[float], score: float) -> Example:
        """As `unlabeled_example`, of a box (x1, y1, x2, y2) that a detector is sure of by a score.

        Raises:
          UserError: The task is of whole images.
        """
        raise UserError(f"{self.name} is of whole images, not of objects that a detector finds.")

    def merge(self, results: Sequence[Result], size: tuple[int, int]) -> Result:
        """The result of an image of a height and a width, of those of its `region_example`s."""
        ...

    def shown_size(self, example: Example) -> tuple[int, int]:
        """Height and width of what is not padding in the image of an `unlabeled_example`."""
        return example["image"].shape[:2]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and 3, of an image that the model can take."""
        return self.preprocessing.shape

    def example_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and types of what `train_example` gives, reading nothing."""
        ...

    def eval_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """As `example_spec`, of `eval_example`, or of a common size of it."""
        return self.example_spec()

    # On the devices, pure functions.

    def normalized(self, batch: Batch) -> jax.Array:
        """float32 `[B, H, W, 3]`: the uint8 `image` of a batch as the model takes it."""
        return self.preprocessing.normalize(batch["image"])

    def augment(self, key: jax.Array, batch: Batch) -> Batch:
        """A training batch, augmented and normalized; by default normalized alone."""
        return {**batch, "image": self.normalized(batch)}

    def loss(self, apply: Apply, batch: Batch) -> tuple[jax.Array, Means]:
        """The loss of an augmented batch, a scalar, and the means of `train_metrics`."""
        ...

    def predict(self, apply: Apply, batch: Batch) -> Predictions:
        """What the model says of a batch of uint8 images, and what the evaluator needs."""
        ...

    def score(self, apply: Apply, images: jax.Array, targets: jax.Array) -> jax.Array:
        """`[B]` in 0 .. 1, how sure the model is of each image's target.

        What importance and deletion curves measure. Images are normalized, `[B, H, W, 3]`.
        """
        ...

    def best_targets(self, apply: Apply, images: jax.Array) -> jax.Array:
        """int32 `[B]`, the target of each normalized image that the model is surest of."""
        ...

    # On the host: numbers and images for people.

    def evaluator(self) -> Evaluator:
        """An empty evaluator."""
        ...

    def to_results(self, predictions: Mapping[str, np.ndarray]) -> list[Result]:
        """One result for each image of a batch of predictions."""
        ...

    def draw(self, image: Image.Image, result: Result) -> Image.Image:
        """A copy of an image, as the model saw it, with the result drawn on it."""
        ...

    def target_of_path(self, path: str) -> str | None:
        """The true target that the path of an image names, or None."""
        return None

    def target_of_record(self, record: Record) -> str | None:
        """The true target of a record, or None."""
        return None

    def mask_of_record(self, record: Record) -> np.ndarray | None:
        """int32 `[H, W]`, the segments of a record's image as `see` gives it, or None.

        Negative where nothing is labeled.
        """
        return None

    def set_image_size(self, config: ml_collections.ConfigDict, image_size: int) -> None:
        """Changes a configuration so that `see` gives images of another size.

        By default squares, cut in the same proportion.
        """
        prepared = self.preprocessing.with_size(image_size)
        config.data.image_size, config.eval.resize = prepared.image_size, prepared.resize

    def outputs(self, head_output: Any) -> dict[str, jax.Array]:
        """The arrays of an exported program, by name, of the head's output."""
        return {"output": head_output}
