"""What tasks have in common that know no more than a configuration and a dataset."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import ClassVar, Self

import ml_collections
import numpy as np
from flax import linen as nn

from cluenet_jax.data import DatasetInfo, Preprocessing, describe_dataset
from cluenet_jax.errors import UserError
from cluenet_jax.models.settings import model_from_config
from cluenet_jax.tasks.base import Task


@dataclasses.dataclass(frozen=True)
class ConfiguredTask(Task):
    """A task whose targets are the classes of a dataset; see `cluenet_jax.tasks.base.Task`.

    Attributes:
      config: The whole configuration, frozen.
      info: Of the dataset.
    """

    # The tensor of published weights that has a row for each class.
    torch_classifier: ClassVar[str]

    config: ml_collections.FrozenConfigDict
    info: DatasetInfo

    @classmethod
    def info_of_weights(
        cls, weights: Mapping[str, np.ndarray], dataset: str, names: list[str] | None
    ) -> DatasetInfo:
        """A class for each row of `torch_classifier`; named by number unless `names` says more."""
        name = cls.torch_classifier
        if name not in weights:
            raise UserError(f"has no tensor {name}, so its number of classes is not known.")
        classes = len(weights[name])
        if names and len(names) != classes:
            raise UserError(f"{len(names)} class names for a model of {classes} classes.")
        info = describe_dataset(dataset, classes)
        # A dataset's own colors are of its own classes.
        colors = info.colors if len(info.colors) == classes else ()
        return dataclasses.replace(
            info, class_names=tuple(names or info.class_names), colors=colors
        )

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
