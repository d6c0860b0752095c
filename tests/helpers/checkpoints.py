"""Small checkpoints of random weights."""

import dataclasses

from cluenet_jax.checkpoints.load import TrainedModel, load
from cluenet_jax.checkpoints.manager import Checkpoints
from cluenet_jax.checkpoints.metadata import Metadata
from cluenet_jax.config import default_config
from cluenet_jax.data import describe_dataset
from cluenet_jax.tasks import create_task
from tests.helpers.models import SMALL_CLUENET, random_images, random_variables


def small_checkpoint(workdir, task_name="classification", dataset="digits") -> TrainedModel:
    """Writes the checkpoint of a small CLUENet, and loads it."""
    config = default_config(task_name)
    config.model.cluenet.update(SMALL_CLUENET)
    config.data.name = dataset
    info = describe_dataset(dataset)
    task = create_task(config, info)
    variables = random_variables(task.build_model(), random_images(1, *task.image_shape))
    metadata = Metadata.of_run(config, info, task.best_metric)
    metadata = dataclasses.replace(metadata, step=7, metrics={task.best_metric: 0.5})
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(metadata, variables=variables)
    return load(str(workdir))
