"""What tasks have in common that know no more than a configuration and a dataset."""

import dataclasses
import functools
from typing import Self

import ml_collections
from flax import linen as nn

from cluenet_jax.data import DatasetInfo, Preprocessing
from cluenet_jax.models.settings import model_from_config
from cluenet_jax.tasks.base import Task


@dataclasses.dataclass(frozen=True)
class ConfiguredTask(Task):
    """A task whose targets are the classes of a dataset; see `cluenet_jax.tasks.base.Task`.

    Attributes:
      config: The whole configuration, frozen.
      info: Of the dataset.
    """

    config: ml_collections.FrozenConfigDict
    info: DatasetInfo

    @classmethod
    def create(cls, config: ml_collections.ConfigDict, info: DatasetInfo) -> Self:
        """The task of a checked configuration and a dataset."""
        return cls(ml_collections.FrozenConfigDict(config), info)

    @property
    def target_names(self) -> tuple[str, ...]:
        """The class names."""
        return self.info.class_names

    @functools.cached_property
    def preprocessing(self) -> Preprocessing:
        """Resizing and normalization as `data` and `eval` say."""
        data, evaluation = self.config.data, self.config.eval
        return Preprocessing(
            data.image_size,
            evaluation.resize,
            evaluation.interpolation,
            self.info.mean,
            self.info.std,
        )

    def build_model(self) -> nn.Module:
        """A backbone and a head of as many outputs as classes."""
        return model_from_config(self.config.model, self.info.num_classes)
