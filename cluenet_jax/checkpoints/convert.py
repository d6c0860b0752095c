"""Published PyTorch weights as a checkpoint that every tool loads."""

from collections.abc import Mapping
from typing import Any

import jax
import ml_collections

from cluenet_jax.checkpoints.manager import Checkpoints
from cluenet_jax.checkpoints.metadata import Metadata
from cluenet_jax.checkpoints.storage import absolute
from cluenet_jax.config import default_config
from cluenet_jax.data import DatasetInfo
from cluenet_jax.errors import UserError
from cluenet_jax.models import create_model, find_family, model_options
from cluenet_jax.models.backbones import FAMILIES
from cluenet_jax.tasks import TASKS, create_task
from cluenet_jax.weights import from_torch, read_state_dict

# Options of `config.model` itself; the others are under the family's key.
_COMMON = ("dtype", "drop_path", "remat")


def convert(
    source: str,
    target: str,
    backbone: str,
    options: Mapping[str, Any] | None = None,
    task: str = "classification",
    head: str = "",
    head_options: Mapping[str, Any] | None = None,
    dataset: str = "",
    image_size: int = 0,
    names: list[str] | None = None,
) -> None:
    """Writes a checkpoint of the weights in a file.

    Args:
      source: A file of `cluenet_jax.weights.read_state_dict`.
      target: A new folder.
      backbone: A name of `list_models()`.
      options: Options of the backbone that differ from its variant's.
      task: What the weights were trained for.
      head: A name that `create_head` takes; the task's usual one if left out.
      head_options: Options of the head that differ from its defaults.
      dataset: What it was trained on, for the normalization: CIFAR-100 for
        backbones named `_mini_cifar`, else ImageNet's, if left out.
      image_size: Side of its square images, or bound of the shorter side of others; if left out 32,
        224, 512 or 800, by the model and the task.
      names: Of its targets; numbers if left out.

    Raises:
      UserError: The file cannot be read or does not fit the model, or `target`
        is not empty.
    """
    folder = absolute(target)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{target} is not empty; give a new folder.")
    weights = read_state_dict(source)
    published = TASKS[task]
    small = task == "classification" and backbone.endswith("_mini_cifar")
    dataset = dataset or ("cifar100" if small else published.torch_dataset)
    try:
        model_options(backbone)  # An unknown name comes before tensors that do not fit.
        info = published.info_of_weights(weights, dataset, names)
        config = _config(task, backbone, dict(options or {}), head, dict(head_options or {}))
        config.data.name = dataset
        _set_size(config, info, image_size or (32 if small else published.torch_image_size))
        built = create_task(config, info)
        variables = from_torch(weights, built.build_model())
    except (ValueError, TypeError) as error:
        raise UserError(f"{source}: {error}") from error
    metadata = Metadata.of_run(config, info, built.best_metric)
    with Checkpoints(target) as checkpoints:
        checkpoints.save(metadata, variables=jax.device_get(variables))


def _config(
    task: str, backbone: str, options: dict[str, Any], head: str, head_options: dict[str, Any]
) -> ml_collections.ConfigDict:
    config = default_config(task)
    config.model.backbone = backbone
    config.model.head = head = head or config.model.head
    # Says which options there are before one is set.
    create_model(backbone, head=head, head_options=head_options, **options)
    (family,) = (name for name, known in FAMILIES.items() if known is find_family(backbone))
    for name, value in options.items():
        section = config.model if name in _COMMON else config.model[family]
        section[name] = value
    for name, value in head_options.items():
        config.model[head][name] = value
    return config


def _set_size(config: ml_collections.ConfigDict, info: DatasetInfo, image_size: int) -> None:
    if image_size > 64:
        config.data.image_size, config.eval.resize = 224, 256
        config.eval.interpolation = "lanczos"
    create_task(config, info).set_image_size(config, image_size)
