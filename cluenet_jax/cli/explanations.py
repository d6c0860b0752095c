"""Explanations of a trained model's predictions, for the tools that show them."""

from collections.abc import Iterable, Iterator, Sequence

import jax
import numpy as np
from PIL import Image

from cluenet_jax import explain
from cluenet_jax.checkpoints.load import TrainedModel
from cluenet_jax.cli.images import eval_records
from cluenet_jax.data import Example, batched_by_shape

# The least longer side of a drawing, in pixels, where it has text.
_DRAWN = 480
# Answers of the model that are shown beside an image.
_MAX_ENTRIES = 5


def explain_prediction(
    trained: TrainedModel,
    example: Example,
    counts: Sequence[int],
    *,
    target_name: str | None = None,
    name: str = "",
    truth: str | None = None,
    num_instances: int = 0,
) -> explain.Explanation:
    """Explains what a trained model says of an image.

    Args:
      trained: The model.
      example: The image, of `trained.task.unlabeled_example`.
      counts: Numbers of regions K of the decision maps.
      target_name: The target that importance is for; the one the model is surest of if None.
      name, truth: As in `Explanation`.
      num_instances: At most so many of the objects that the model detects are in it.
    """
    names, image = trained.task.target_names, example["image"]
    batch = {key: array[None] for key, array in example.items()}
    normalized = np.asarray(trained.task.normalized(batch)[0])
    if target_name is None:
        best = jax.jit(trained.best_targets)(trained.variables, normalized[None])
        target = int(best[0])
    else:
        target = names.index(target_name)
    (result,) = trained.predict([example], batch_size=1)
    drawing, entries = None, result.entries()
    if result.least_drawn is None:
        entries = entries[:_MAX_ENTRIES]
    else:
        entries = [entry for entry in entries if entry[1] >= result.least_drawn]
    if result.has_drawing:
        drawing = np.asarray(trained.task.draw(Image.fromarray(image), result.enlarged(_DRAWN)))
    height, width = trained.task.shown_size(example)
    instances = result.instances((height, width), num_instances)
    explanation = explain.explain_image(
        trained.model,
        trained.score,
        trained.variables,
        image,
        normalized,
        target,
        counts,
        target_name=names[target],
        entries=entries,
        name=name,
        truth=truth,
        drawing=drawing,
        instances=[explain.Instance(*fields) for fields in instances],
        keypoints=result.keypoints((height, width)),
        least_score=result.least_drawn,
    )
    return explanation.cropped(height, width)


def model_line(trained: TrainedModel, path: str) -> str:
    """A line that names a model."""
    backbone = trained.metadata.config["model"]["backbone"]
    return f"{backbone}, {len(trained.task.target_names)} targets, from {path}"


def normalized_batches(
    trained: TrainedModel, images: Iterable[np.ndarray], batch_size: int
) -> Iterator[np.ndarray]:
    """Normalized images `[B, H, W, 3]`, those in a row that share their shape.

    Args:
      trained: The model.
      images: uint8 `[H, W, 3]`, as `trained.task.see` gives them.
      batch_size: Largest B.
    """
    for batch in batched_by_shape(({"image": image} for image in images), batch_size):
        stacked = np.stack([example["image"] for example in batch])
        yield np.asarray(trained.preprocessing.normalize(stacked))


def compare_with_masks(
    trained: TrainedModel, num_images: int | None
) -> explain.PartitionComparison | None:
    """How well clusters follow the masks of the evaluation set; None if it has none."""
    comparison = None
    for _, record in eval_records(trained, num_images):
        mask = trained.task.mask_of_record(record)
        if mask is None:
            return None
        comparison = comparison or explain.PartitionComparison()
        seen = trained.task.see_record(record)
        normalized = trained.preprocessing.normalize(seen)[None]
        maps = explain.compute_maps(trained.model, trained.variables, normalized)
        clusters = [np.asarray(index[0]) for index in maps.clusters]
        fields = [np.asarray(field[0]) for field in maps.fields]
        comparison.add(explain.partitions_to_compare(seen, clusters, fields), mask)
    return comparison
