"""Tasks: one file per task, one dict of all."""

import ml_collections

from cluenet_jax.data import DatasetInfo
from cluenet_jax.tasks.base import Task
from cluenet_jax.tasks.classification import Classification
from cluenet_jax.tasks.detection import Detection
from cluenet_jax.tasks.pose import Pose
from cluenet_jax.tasks.segmentation import Segmentation

TASKS: dict[str, type[Task]] = {
    task.name: task for task in (Classification, Segmentation, Detection, Pose)
}


def create_task(config: ml_collections.ConfigDict, info: DatasetInfo) -> Task:
    """The task that `config.task` names, for a dataset."""
    return TASKS[config.task].create(config, info)
