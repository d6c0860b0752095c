"""Datasets of TensorFlow Datasets (TFDS), and of builders of our own for it.

Our builders are in this folder, for what TFDS lacks or cannot prepare without TensorFlow. Their
modules are imported only when their datasets are loaded: importing TFDS takes seconds. Their names
begin with `cluenet_`, so that they never collide with TFDS's own.
"""

import contextlib
import dataclasses
import importlib
import importlib.util
import logging
import pathlib
import time
from typing import Any

from cluenet_jax.data.records import Record
from cluenet_jax.errors import DatasetError

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TfdsSource:
    """A split of a TFDS dataset, its images still encoded."""

    records: Any
    name: str
    num_classes: int

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        name = f"{self.name}[{index}]"
        try:
            record = self.records[index]
        except Exception as error:  # array_record raises errors of any type.
            raise DatasetError(f"{name}: cannot be read ({error}).") from error
        label = int(record["label"])
        if not 0 <= label < self.num_classes:
            raise DatasetError(
                f"{name}: its label is {label}, the {self.num_classes} classes are 0 .. "
                f"{self.num_classes - 1}."
            )
        return {"image": record["image"], "label": label, "name": name}


@dataclasses.dataclass(frozen=True)
class TfdsDataset:
    """A classification dataset of TFDS.

    Attributes:
      builder: Name of a builder, TFDS's or ours.
      module: Module in this folder that defines our builder; "" for TFDS's.
      train_split, eval_split: The dataset's own splits.
      manual: Paths in `folder` that must be there before preparing.
      folder: Folder in TFDS's manual folder.
      help: Advice on how to get the data, for errors.
    """

    builder: str
    module: str = ""
    train_split: str = "train"
    eval_split: str = "test"
    manual: tuple[str, ...] = ()
    folder: str = ""
    help: str = ""

    @property
    def name(self) -> str:
        """The dataset's name in messages."""
        return self.builder.removeprefix("cluenet_")

    def open(
        self, data_dir: str, train_split: str, eval_split: str
    ) -> tuple[tuple[str, ...], TfdsSource, TfdsSource]:
        """Opens the dataset, preparing it first where that has not been done.

        Args:
          data_dir: TFDS's data directory; "" for its own default.
          train_split, eval_split: TFDS split expressions; "" for the dataset's own.

        Returns:
          The class names, the training and the eval source.

        Raises:
          DatasetError: The data is missing or a split does not exist; names what would be right.
        """
        builder = self._create_builder(data_dir)
        if not builder.is_prepared():
            builder = self._prepare(builder, data_dir)
        return (
            tuple(builder.info.features["label"].names),
            self._open_split(builder, train_split or self.train_split),
            self._open_split(builder, eval_split or self.eval_split),
        )

    def _create_builder(self, data_dir: str) -> Any:
        import tensorflow_datasets as tfds

        if self.module:
            importlib.import_module(f"cluenet_jax.data.datasets.{self.module}")
        return tfds.builder(self.builder, data_dir=data_dir or None, file_format="array_record")

    def _prepare(self, builder: Any, data_dir: str) -> Any:
        import tensorflow_datasets as tfds

        manual = pathlib.Path(builder.data_dir).parents[1] / "downloads" / "manual"
        self._check_requirements(builder, manual)
        manual.mkdir(parents=True, exist_ok=True)
        _LOG.info("Preparing %s in %s, once: this takes minutes.", self.name, builder.data_dir)
        begin = time.perf_counter()
        download = tfds.download.DownloadConfig(manual_dir=manual, force_checksums_validation=True)
        try:
            builder.download_and_prepare(download_config=download, file_format="array_record")
        except DatasetError:
            raise
        except Exception as error:
            # Another process may have prepared it at the same time.
            with contextlib.suppress(Exception):
                builder = self._create_builder(data_dir)
                if builder.is_prepared():
                    return builder
            raise DatasetError(
                f"{self.name} could not be prepared ({type(error).__name__}: {error}). Archives "
                f"are looked for in {manual}. {self.help}"
            ) from error
        _LOG.info("Prepared %s in %.0f s.", self.name, time.perf_counter() - begin)
        return builder

    def _check_requirements(self, builder: Any, manual: pathlib.Path) -> None:
        paths = [manual / self.folder / path for path in self.manual]
        missing = [str(path) for path in paths if not path.exists()]
        if missing:
            raise DatasetError(
                f"{self.name} is not there: {', '.join(missing)} missing. {self.help}"
            )
        if not self.module and not importlib.util.find_spec("tensorflow"):
            raise DatasetError(
                f"{self.name} is not in {builder.data_dir} yet, and preparing it needs TensorFlow "
                "once: `pip install tensorflow`, then run the same command again. Reading it later "
                "does not."
            )

    def _open_split(self, builder: Any, split: str) -> TfdsSource:
        import tensorflow_datasets as tfds

        try:
            # TFDS's own decoding gives wrong colors for some palettes and modes.
            records = builder.as_data_source(
                split=split, decoders={"image": tfds.decode.SkipDecoding()}
            )
        except NotImplementedError as error:
            raise DatasetError(
                f"{builder.data_path} was prepared in a format without random access. Move it "
                "away and run again: it is prepared again, as array_record."
            ) from error
        except (ValueError, KeyError) as error:
            raise DatasetError(
                f"{self.name} has no split {split!r}; it has {', '.join(builder.info.splits)}, and "
                f"parts such as 'train[:10%]'. ({error})"
            ) from error
        if not len(records):
            raise DatasetError(f"The split {split!r} of {self.name} is empty.")
        classes = builder.info.features["label"].num_classes
        return TfdsSource(records, f"{self.name} {split}", classes)
