"""What tasks have in common that know no more than a configuration and a dataset."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Self

import ml_collections
import numpy as np
from flax import linen as nn

from cluenet_jax.data import DatasetInfo, Preprocessing, describe_dataset
from cluenet_jax.errors import UserError
from cluenet_jax.models.settings import model_from_config
from cluenet_jax.settings import require
from cluenet_jax.tasks.base import Task


class ClassifierRows(NamedTuple):
    """The rows of a classifier's tensor: for each class, and besides, for what is of no class."""

    per_class: int = 1
    besides: int = 0


@dataclasses.dataclass(frozen=True)
class ConfiguredTask(Task):
    """A task whose targets are the classes of a dataset; see `cluenet_jax.tasks.base.Task`.

    Attributes:
      config: The whole configuration, frozen.
      info: Of the dataset.
    """

    # The heads that a model may have.
    heads: ClassVar[tuple[str, ...]]
    # The tensors of published weights, any one of which says how many classes there are.
    torch_classifiers: ClassVar[Mapping[str, ClassifierRows]]

    config: ml_collections.FrozenConfigDict
    info: DatasetInfo

    @classmethod
    def check_config(cls, config: ml_collections.ConfigDict) -> None:
        """Raises a UserError for a head of another task; tasks add what they check."""
        head = config.model.head
        require(head in cls.heads, "model.head", head, f"{cls.name} takes {' or '.join(cls.heads)}")

    @classmethod
    def info_of_weights(
        cls, weights: Mapping[str, np.ndarray], dataset: str, names: list[str] | None
    ) -> DatasetInfo:
        """The classes of `torch_classifiers`' rows; named by number unless `names` says more."""
        name = next((name for name in cls.torch_classifiers if name in weights), None)
        if name is None:
            known = " or ".join(cls.torch_classifiers)
            raise UserError(f"has no tensor {known}, so its number of classes is not known.")
        shape = np.shape(weights[name])
        rows = cls.torch_classifiers[name]
        classes, left = divmod(shape[0] - rows.besides if shape else 0, rows.per_class)
        if classes < 1 or left:
            raise UserError(f"has no class: its tensor {name} is {list(shape)}.")
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


@dataclasses.dataclass(frozen=True)
class DenseTask(ConfiguredTask):
    """A task of images of any aspect: changed at random on the host, evaluated uncropped.

    Its own section has `eval_scale`, bounds of the longer and the shorter side in an evaluation.
    """

    @classmethod
    def check_config(cls, config: ml_collections.ConfigDict) -> None:
        """Raises a UserError for a head of another task, and for a cache."""
        super().check_config(config)
        require(
            not config.data.cache,
            "data.cache",
            True,
            f"{cls.name} changes every image each time it is read; leave it False",
        )

    def set_image_size(self, config: ml_collections.ConfigDict, image_size: int) -> None:
        """`image_size` becomes the bound of the shorter side, the other changes in proportion."""
        scale = self.config[self.name].eval_scale
        config[self.name].eval_scale = (round(max(scale) * image_size / min(scale)), image_size)
        # Of the square images that an exported program takes; none is a part of a larger one.
        config.data.image_size, config.eval.resize = image_size, 0
