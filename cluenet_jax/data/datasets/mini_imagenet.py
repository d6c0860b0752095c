"""Mini-ImageNet for classification: 100 classes of 600 images, split 80/20 by image.

Source: O. Vinyals et al., Matching Networks for One Shot Learning, 2016; the lists
are the few-shot ones, the split that of CLUENet's published code.
"""

import csv
import pathlib
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds

from cluenet_jax.data.image_files import listed_image

FOLDER = "mini_imagenet"
LISTS = ("train.csv", "val.csv", "test.csv")
NUM_CLASSES = 100


def split_by_image(rows: list[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """Splits 80/20 within each class, exactly as the published experiments did.

    Args:
      rows: (file name, class) of the three few-shot lists, one after the other.

    Returns:
      The rows of `train` and `test`, class by class in sorted order.
    """
    split = {"train": [], "test": []}
    files_of: dict[str, list[str]] = {}
    for name, label in rows:
        files_of.setdefault(label, []).append(name)
    for label in sorted(files_of):
        files = files_of[label]
        # The same seed for every class, as published.
        order = np.random.RandomState(1).choice(len(files), size=len(files), replace=False)
        count = int(0.8 * len(files))
        split["train"] += [(files[i], label) for i in order[:count]]
        split["test"] += [(files[i], label) for i in order[count:]]
    return split


class CluenetMiniImagenet(tfds.core.GeneratorBasedBuilder):
    """48,000 train and 12,000 test JPEGs of about 500 pixels."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "A folder mini_imagenet with train.csv, val.csv, test.csv (the few-shot lists) and images/."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(),
                    "label": tfds.features.ClassLabel(num_classes=NUM_CLASSES),
                }
            ),
            description=__doc__,
        )

    def _split_generators(self, dl_manager):
        folder = pathlib.Path(dl_manager.manual_dir) / FOLDER
        rows = []
        for name in LISTS:
            with (folder / name).open(newline="") as file:
                rows += [(row["filename"], row["label"]) for row in csv.DictReader(file)]
        self.info.features["label"].names = sorted({label for _, label in rows})
        return {
            name: self._generate_examples(folder / "images", part)
            for name, part in split_by_image(rows).items()
        }

    def _generate_examples(
        self, images: pathlib.Path, rows: list[tuple[str, str]]
    ) -> Iterator[tuple[str, dict]]:
        for name, label in rows:
            yield name, {"image": str(listed_image(images, name)), "label": label}
