"""A trained model as a program that runs without this package."""

import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from cluenet_jax import ops
from cluenet_jax.checkpoints.load import TrainedModel

PLATFORMS = ("cpu", "cuda", "tpu")


def export_program(trained: TrainedModel) -> bytes:
    """The model as a serialized `jax.export` program (StableHLO), weights included.

    It takes uint8 images `[batch, *image_shape]`, batch of any size and the shape that of the
    task's images (a square of the checkpoint's `image_size` but for crops of another aspect),
    normalizes them and returns the task's outputs: float32 logits for a classifier.
    """

    def program(images: jax.Array) -> Any:
        output = trained.model.apply(trained.variables, trained.preprocessing.normalize(images))
        outputs = trained.task.outputs(output)
        # One output needs no name to be found by.
        return outputs if len(outputs) > 1 else next(iter(outputs.values()))

    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *trained.task.image_shape), jnp.uint8)
    exported = jax.export.export(jax.jit(ops.traced_for(program, None)), platforms=PLATFORMS)
    return exported(images).serialize()


def describe_program(trained: TrainedModel) -> dict[str, Any]:
    """What a user of the program must know, as plain numbers, strings and lists."""
    metadata = trained.metadata
    return {
        "task": trained.task.name,
        "model": metadata.config["model"]["backbone"],
        "target_names": [*trained.task.target_names],
        "image_shape": [*trained.task.image_shape],
        **trained.preprocessing.to_json(),
        "step": metadata.step,
        "metrics": dict(metadata.metrics),
        "versions": dict(metadata.versions),
    }


def write_program(trained: TrainedModel, folder: pathlib.Path) -> None:
    """Writes `model.stablehlo` and `model.json`."""
    program = export_program(trained)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.stablehlo").write_bytes(program)
    (folder / "model.json").write_text(json.dumps(describe_program(trained), indent=1) + "\n")
