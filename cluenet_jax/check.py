"""The check of a whole configuration, before anything is read or written."""

import ml_collections

from cluenet_jax.checkpoints import manager
from cluenet_jax.data.settings import check_data
from cluenet_jax.models.settings import check_model
from cluenet_jax.settings import check_settings, integer, one_of, text
from cluenet_jax.tasks import TASKS
from cluenet_jax.train import optimizer, schedule


def check_config(config: ml_collections.ConfigDict, device_count: int) -> None:
    """Refuses a configuration that cannot run.

    Args:
      config: The whole configuration.
      device_count: Devices over all processes.

    Raises:
      UserError: Names the setting, its value, and what would be right.
    """
    check_settings(config, "", {"seed": integer(0, 2**32 - 1), "task": one_of(TASKS)})
    check_settings(config.init, "init", {"checkpoint": text(), "backbone": text()})
    check_model(config.model)
    check_data(config, device_count)
    TASKS[config.task].check_config(config)
    optimizer.check_optimizer(config.optim, device_count)
    check_settings(config.train, "train", schedule.SETTINGS)
    check_settings(config.checkpoint, "checkpoint", manager.SETTINGS)
