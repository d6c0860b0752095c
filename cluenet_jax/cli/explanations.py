"""Explanations of a trained model's predictions, for the tools that show them."""

from collections.abc import Sequence

import jax
import numpy as np

from cluenet_jax import explain
from cluenet_jax.checkpoints.load import TrainedModel

# Answers of the model that are shown beside an image.
_MAX_ENTRIES = 5


def explain_prediction(
    trained: TrainedModel,
    image: np.ndarray,
    counts: Sequence[int],
    *,
    target_name: str | None = None,
    name: str = "",
    truth: str | None = None,
) -> explain.Explanation:
    """Explains what a trained model says of an image.

    Args:
      trained: The model.
      image: uint8 `[S, S, 3]`, as its preprocessing gives.
      counts: Numbers of regions K of the decision maps.
      target_name: The target that importance is for; the one the model is surest of if None.
      name, truth: As in `Explanation`.
    """
    names = trained.task.target_names
    normalized = np.asarray(trained.preprocessing.normalize(image))
    if target_name is None:
        best = jax.jit(trained.best_targets)(trained.variables, normalized[None])
        target = int(best[0])
    else:
        target = names.index(target_name)
    (result,) = trained.predict([image], batch_size=1)
    return explain.explain_image(
        trained.model,
        trained.score,
        trained.variables,
        image,
        normalized,
        target,
        counts,
        target_name=names[target],
        entries=result.entries()[:_MAX_ENTRIES],
        name=name,
        truth=truth,
    )


def model_line(trained: TrainedModel, path: str) -> str:
    """A line that names a model."""
    backbone = trained.metadata.config["model"]["backbone"]
    return f"{backbone}, {len(trained.task.target_names)} targets, from {path}"
