"""IP102: 102 classes of insect pests.

Source: X. Wu et al., IP102: A Large-Scale Benchmark Dataset for Insect Pest
Recognition, CVPR 2019.
"""

import pathlib
from collections.abc import Iterator

import tensorflow_datasets as tfds

from cluenet_jax.data.image_files import listed_image

FOLDER = "ip102_v1.1"
NUM_CLASSES = 102
LISTS = {"train": "train.txt", "validation": "val.txt", "test": "test.txt"}


class CluenetIp102(tfds.core.GeneratorBasedBuilder):
    """About 75,000 images, split as published into train, validation and test."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The published folder ip102_v1.1 with images/, train.txt, val.txt, test.txt; and "
        "classes.txt beside them."
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
        # Lines such as "1   rice leaf roller".
        lines = (folder / "classes.txt").read_text().splitlines()
        self.info.features["label"].names = [
            line.split(maxsplit=1)[1].strip() for line in lines if line.strip()
        ]
        return {
            split: self._generate_examples(folder / "images", folder / name)
            for split, name in LISTS.items()
        }

    def _generate_examples(
        self, images: pathlib.Path, listing: pathlib.Path
    ) -> Iterator[tuple[str, dict]]:
        for line in listing.read_text().splitlines():
            if line.strip():
                name, label = line.split()
                yield name, {"image": str(listed_image(images, name)), "label": int(label)}
