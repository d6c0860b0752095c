"""The table of datasets, and the only lookup of a dataset by its name."""

import dataclasses
import difflib
from collections.abc import Callable

from cluenet_jax.data.datasets.ade20k import open_ade20k
from cluenet_jax.data.datasets.camvid import CLASSES as CAMVID_CLASSES
from cluenet_jax.data.datasets.camvid import open_camvid
from cluenet_jax.data.datasets.coco import NUM_CLASSES as COCO_CLASSES
from cluenet_jax.data.datasets.coco import open_coco
from cluenet_jax.data.datasets.coco_json import open_coco_json
from cluenet_jax.data.datasets.coco_poses import (
    open_coco_keypoints,
    open_coco_wholebody,
    open_keypoints_json,
)
from cluenet_jax.data.datasets.digit_scenes import open_digit_scenes
from cluenet_jax.data.datasets.digits import open_digits
from cluenet_jax.data.datasets.figures import open_figure_boxes, open_figures
from cluenet_jax.data.datasets.image_folder import open_image_folder
from cluenet_jax.data.datasets.info import Dataset, DatasetInfo, Opened, Rgb8
from cluenet_jax.data.datasets.mask_folder import open_mask_folder
from cluenet_jax.data.datasets.tfds import TfdsDataset
from cluenet_jax.data.datasets.voc_boxes import open_voc_boxes
from cluenet_jax.data.skeletons import COCO, FIGURE, WHOLE_BODY, Skeleton
from cluenet_jax.errors import DatasetError

Rgb = tuple[float, float, float]
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
_CIFAR100 = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_CIFAR_HELP = "Without internet, put {} from https://www.cs.toronto.edu/~kriz/cifar.html there."


@dataclasses.dataclass(frozen=True)
class Entry:
    """A row of the table.

    Attributes:
      open: Function of (data_dir, train_split, eval_split) that gives the fields of `Opened`, the
        colors only if the dataset has its own.
      normalization: Mean and standard deviation of RGB.
      num_classes: None where only the data says.
      tasks: Names of those that its records have the truth for.
      colors: The dataset's own colors of its classes.
      skeleton: Of poses, where it does not depend on the data.
    """

    open: Callable[[str, str, str], tuple]
    normalization: tuple[Rgb, Rgb] = _IMAGENET
    num_classes: int | None = None
    tasks: tuple[str, ...] = ("classification",)
    colors: tuple[Rgb8, ...] = ()
    skeleton: Skeleton | None = None


def _poses(open_function: Callable[..., tuple], skeleton: Skeleton, rgb=_IMAGENET) -> Entry:
    """The entry of a dataset of poses."""
    return Entry(open_function, rgb, len(skeleton), ("pose",), skeleton=skeleton)


DATASETS = {
    "digits": Entry(open_digits, _HALF, 10),
    "cifar10": Entry(
        TfdsDataset(
            "cluenet_cifar10", module="cifar", help=_CIFAR_HELP.format("cifar-10-binary.tar.gz")
        ).open,
        _CIFAR10,
        10,
    ),
    "cifar100": Entry(
        TfdsDataset(
            "cluenet_cifar100", module="cifar", help=_CIFAR_HELP.format("cifar-100-binary.tar.gz")
        ).open,
        _CIFAR100,
        100,
    ),
    "mini_imagenet": Entry(
        TfdsDataset(
            "cluenet_mini_imagenet",
            module="mini_imagenet",
            folder="mini_imagenet",
            manual=("train.csv", "val.csv", "test.csv", "images"),
            help="Put there a folder mini_imagenet with the three few-shot lists train.csv, "
            "val.csv, test.csv and the images in images/.",
        ).open,
        num_classes=100,
    ),
    "ip102": Entry(
        TfdsDataset(
            "cluenet_ip102",
            module="ip102",
            folder="ip102_v1.1",
            manual=("train.txt", "val.txt", "test.txt", "classes.txt", "images"),
            help="Put there the folder ip102_v1.1 of https://github.com/xpwu95/IP102 with images/, "
            "train.txt, val.txt, test.txt, and its classes.txt.",
        ).open,
        num_classes=102,
    ),
    "food101": Entry(TfdsDataset("food101", eval_split="validation").open, num_classes=101),
    "caltech_birds2011": Entry(TfdsDataset("caltech_birds2011").open, num_classes=200),
    "imagenet2012": Entry(
        TfdsDataset(
            "imagenet2012",
            eval_split="validation",
            manual=("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"),
            help="Put there the two archives of https://image-net.org/download-images.php.",
        ).open,
        num_classes=1000,
    ),
    "image_folder": Entry(open_image_folder),
    "digit_scenes": Entry(open_digit_scenes, _HALF, 11, ("segmentation", "detection")),
    "camvid": Entry(open_camvid, _IMAGENET, 11, ("segmentation",), tuple(CAMVID_CLASSES.values())),
    "ade20k": Entry(open_ade20k, _IMAGENET, 150, ("segmentation",)),
    "mask_folder": Entry(open_mask_folder, tasks=("segmentation",)),
    "coco": Entry(open_coco, _IMAGENET, COCO_CLASSES, ("detection",)),
    "coco_json": Entry(open_coco_json, tasks=("detection",)),
    "voc_boxes": Entry(open_voc_boxes, tasks=("detection",)),
    "figures": _poses(open_figures, FIGURE, _HALF),
    "figure_boxes": Entry(open_figure_boxes, _HALF, 1, ("detection",)),
    "coco_keypoints": _poses(open_coco_keypoints, COCO),
    "coco_wholebody": _poses(open_coco_wholebody, WHOLE_BODY),
    "keypoints_json": Entry(open_keypoints_json, tasks=("pose",)),
}


def list_datasets() -> list[str]:
    """Names that `load_dataset` takes."""
    return [*DATASETS]


def normalization(name: str) -> tuple[Rgb, Rgb]:
    """Mean and standard deviation of RGB, in 0 .. 1, that a dataset is normalized with."""
    return _entry(name).normalization


def describe_dataset(name: str, num_targets: int | None = None) -> DatasetInfo:
    """What is known of a dataset without reading it; classes are named by number.

    Args:
      name: One of `list_datasets()`.
      num_targets: Number of classes; None for the dataset's own.

    Raises:
      DatasetError: The name is unknown, or the number is not given, and only the data says it.
    """
    entry = _entry(name)
    count = num_targets or entry.num_classes
    if not count:
        raise DatasetError(f"The number of targets of {name} is known only from its data.")
    names = tuple(map(str, range(count)))
    skeleton = entry.skeleton
    if "pose" in entry.tasks:
        if skeleton is None or len(skeleton) != count:
            skeleton = Skeleton.of_names(names)
        names = skeleton.names
    return DatasetInfo(name, names, *entry.normalization, entry.colors, skeleton)


def check_task(name: str, task: str) -> None:
    """Raises a DatasetError if a dataset's records lack the truth that a task learns.

    A task that no dataset of the table names is not checked.
    """
    suited = [other for other, entry in DATASETS.items() if task in entry.tasks]
    if suited and name not in suited:
        raise DatasetError(
            f"config.data.name={name!r} is for {' and '.join(_entry(name).tasks)}, the task is "
            f"{task}; for it there are {', '.join(suited)}."
        )


def load_dataset(
    name: str, data_dir: str = "", train_split: str = "", eval_split: str = ""
) -> Dataset:
    """Opens a dataset, preparing it first where that has not been done.

    Args:
      name: One of `list_datasets()`.
      data_dir: TFDS's data directory ("" for `~/tensorflow_datasets` or
        `TFDS_DATA_DIR`), or the root of a folder of images.
      train_split, eval_split: TFDS split expressions such as "train[:10%]", or
        names of folders where the dataset is one; "" for the dataset's own.

    Raises:
      DatasetError: The name is unknown, or the data is missing: the message
        gives the command or folder that would provide it.
    """
    entry = _entry(name)
    opened = Opened(*entry.open(data_dir, train_split, eval_split))
    info = DatasetInfo(
        name, opened.class_names, *entry.normalization, opened.colors, opened.skeleton
    )
    return Dataset(info, opened.train, opened.eval)


def _entry(name: str) -> Entry:
    if name not in DATASETS:
        close = difflib.get_close_matches(name, DATASETS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise DatasetError(
            f"Unknown dataset {name!r}.{hint} Datasets: {', '.join(list_datasets())}."
        )
    return DATASETS[name]
