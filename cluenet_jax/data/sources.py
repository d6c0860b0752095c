"""The table of datasets, and the only look-up of one by its name."""

import contextlib
import dataclasses
import difflib
import importlib
import importlib.util
import logging
import pathlib
from typing import Any, Protocol

from cluenet_jax.data.image_folder import open_image_folder
from cluenet_jax.errors import DatasetError

_LOG = logging.getLogger(__name__)
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
_CIFAR100 = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Source(Protocol):
    """Random access to records `{"image": bytes, "label": int, "name": str}`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset ready to be read.

    Attributes:
      name: As in `list_datasets()`.
      class_names: By label.
      train, test: The two splits.
      mean, std: Of RGB, in 0 .. 1, that images are normalised with.
    """

    name: str
    class_names: tuple[str, ...]
    train: Source
    test: Source
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def num_classes(self) -> int:
        """Width of the logits."""
        return len(self.class_names)


@dataclasses.dataclass(frozen=True)
class _Entry:
    """One row of the table.

    Attributes:
      tfds_name: Name of a builder, TFDS's or ours.
      module: Where our builder is; "" for TFDS's.
      train, test: Splits.
      normalization: Mean and standard deviation of RGB.
      manual: Paths below TFDS's manual folder that must be there before preparing.
      help: How to come by the data, for errors.
    """

    tfds_name: str
    module: str = ""
    train: str = "train"
    test: str = "test"
    normalization: tuple[tuple, tuple] = _IMAGENET
    manual: tuple[str, ...] = ()
    help: str = ""


_ARCHIVE_HELP = "Without internet, put {} from https://www.cs.toronto.edu/~kriz/cifar.html there."
_TABLE = {
    "digits": _Entry("cluenet_digits", "digits", normalization=_HALF),
    "cifar10": _Entry(
        "cluenet_cifar10",
        "cifar",
        normalization=_CIFAR10,
        help=_ARCHIVE_HELP.format("cifar-10-binary.tar.gz"),
    ),
    "cifar100": _Entry(
        "cluenet_cifar100",
        "cifar",
        normalization=_CIFAR100,
        help=_ARCHIVE_HELP.format("cifar-100-binary.tar.gz"),
    ),
    "mini_imagenet": _Entry(
        "cluenet_mini_imagenet",
        "mini_imagenet",
        manual=tuple(
            f"mini_imagenet/{name}" for name in ("train.csv", "val.csv", "test.csv", "images")
        ),
        help=(
            "Put there a folder mini_imagenet with the three few-shot lists train.csv, val.csv, "
            "test.csv and the pictures in images/."
        ),
    ),
    "ip102": _Entry(
        "cluenet_ip102",
        "ip102",
        manual=tuple(
            f"ip102_v1.1/{name}"
            for name in ("train.txt", "val.txt", "test.txt", "classes.txt", "images")
        ),
        help=(
            "Put there the folder ip102_v1.1 of https://github.com/xpwu95/IP102 with images/, "
            "train.txt, val.txt, test.txt, and its classes.txt."
        ),
    ),
    "food101": _Entry("food101", test="validation"),
    "caltech_birds2011": _Entry("caltech_birds2011"),
    "imagenet2012": _Entry(
        "imagenet2012",
        test="validation",
        manual=("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"),
        help="Put there the two archives of https://image-net.org/download-images.php.",
    ),
}
IMAGE_FOLDER = "image_folder"


def normalization(name: str) -> tuple[tuple, tuple]:
    """Mean and standard deviation of RGB, in 0 .. 1, that a dataset is normalised with."""
    return _TABLE[name].normalization if name in _TABLE else _IMAGENET


def list_datasets() -> list[str]:
    """Names that `load_dataset` takes."""
    return [*_TABLE, IMAGE_FOLDER]


def load_dataset(
    name: str, data_dir: str = "", train_split: str = "", test_split: str = ""
) -> Dataset:
    """Opens a dataset, preparing it first where that has not been done.

    Args:
      name: One of `list_datasets()`.
      data_dir: TFDS's data directory ("" for `~/tensorflow_datasets` or
        `TFDS_DATA_DIR`), or the root of an image folder.
      train_split, test_split: TFDS split expressions such as "train[:10%]", or
        names of folders of an image folder; "" for the dataset's own.

    Raises:
      DatasetError: The name is unknown, or the data is missing: the message
        gives the command or folder that would provide it.
    """
    if name == IMAGE_FOLDER:
        classes, train, test = open_image_folder(data_dir, train_split, test_split)
        return Dataset(name, classes, train, test, *_IMAGENET)
    if name not in _TABLE:
        close = difflib.get_close_matches(name, list_datasets(), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise DatasetError(
            f"Unknown dataset {name!r}.{hint} Datasets: {', '.join(list_datasets())}."
        )
    entry = _TABLE[name]
    builder = _prepared_builder(name, entry, data_dir)
    return Dataset(
        name,
        tuple(builder.info.features["label"].names),
        _open_split(builder, train_split or entry.train),
        _open_split(builder, test_split or entry.test),
        *entry.normalization,
    )


@dataclasses.dataclass(frozen=True)
class TfdsSource:
    """A split of a TFDS dataset, its pictures still encoded."""

    records: Any
    name: str
    num_classes: int

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name = f"{self.name}[{index}]"
        try:
            record = self.records[index]
        except Exception as error:  # array_record raises whatever it meets.
            raise DatasetError(f"{name}: cannot be read ({error}).") from error
        label = int(record["label"])
        if not 0 <= label < self.num_classes:
            raise DatasetError(
                f"{name}: its label is {label}, the {self.num_classes} classes are 0 .. "
                f"{self.num_classes - 1}."
            )
        return {"image": record["image"], "label": label, "name": name}


def _open_split(builder: Any, split: str) -> TfdsSource:
    import tensorflow_datasets as tfds

    try:
        # TFDS's own decoding gives wrong colours for some palettes and modes.
        records = builder.as_data_source(
            split=split, decoders={"image": tfds.decode.SkipDecoding()}
        )
    except NotImplementedError as error:
        raise DatasetError(
            f"{builder.data_path} was prepared in a format that cannot be read at random. Move it "
            "away and run again: it is prepared anew as array_record."
        ) from error
    except (ValueError, KeyError) as error:
        raise DatasetError(
            f"{builder.name} has no split {split!r}; it has {', '.join(builder.info.splits)}, and "
            f"parts such as 'train[:10%]'. ({error})"
        ) from error
    if not len(records):
        raise DatasetError(f"The split {split!r} of {builder.name} is empty.")
    classes = builder.info.features["label"].num_classes
    return TfdsSource(records, f"{builder.name} {split}", classes)


def _prepared_builder(name: str, entry: _Entry, data_dir: str) -> Any:
    import tensorflow_datasets as tfds

    if entry.module:
        importlib.import_module(f"cluenet_jax.data.builders.{entry.module}")
    options = dict(data_dir=data_dir or None, file_format="array_record")
    builder = tfds.builder(entry.tfds_name, **options)
    if builder.is_prepared():
        return builder

    manual = pathlib.Path(builder.data_dir).parents[1] / "downloads" / "manual"
    missing = [str(manual / path) for path in entry.manual if not (manual / path).exists()]
    if missing:
        raise DatasetError(f"{name} is not there: {', '.join(missing)} missing. {entry.help}")
    if not entry.module and not importlib.util.find_spec("tensorflow"):
        raise DatasetError(
            f"{name} is not in {builder.data_dir} yet, and preparing it needs TensorFlow once: "
            "`pip install tensorflow`, then run the same command again. Reading it later does not."
        )
    manual.mkdir(parents=True, exist_ok=True)
    _LOG.info("Preparing %s in %s, once.", name, builder.data_dir)
    download = tfds.download.DownloadConfig(manual_dir=manual, force_checksums_validation=True)
    try:
        builder.download_and_prepare(download_config=download, file_format="array_record")
    except DatasetError:
        raise
    except Exception as error:
        # Another process may have prepared it at the same time.
        with contextlib.suppress(Exception):
            builder = tfds.builder(entry.tfds_name, **options)
            if builder.is_prepared():
                return builder
        raise DatasetError(
            f"{name} could not be prepared ({type(error).__name__}: {error}). Archives are looked "
            f"for in {manual}. {entry.help}"
        ) from error
    return builder
