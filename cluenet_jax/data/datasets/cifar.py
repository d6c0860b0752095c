"""CIFAR-10 and CIFAR-100 from their published binary archives, without TensorFlow.

TFDS knows the archives' checksums and verifies them, also of archives that the
user has put there.

Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
"""

import pathlib
import tarfile
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

SIDE = 32


class _Cifar(tfds.core.GeneratorBasedBuilder):
    """The part that both archives share: records of label bytes and three color planes."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Downloaded automatically; without internet put the archive here."
    )
    SKIP_REGISTERING = True

    url: str
    # Paths in the archive.
    files: dict[str, list[str]]
    names_file: str
    # Bytes before the pixels of a record; the last one is the label.
    label_bytes: int

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIDE, SIDE, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=self.num_classes),
                }
            ),
            description=__doc__,
        )

    def _split_generators(self, dl_manager):
        archive = pathlib.Path(dl_manager.download(self.url))
        with tarfile.open(archive) as tar:
            names = tar.extractfile(self.names_file).read().decode().split()
            self.info.features["label"].names = names
            contents = {
                split: b"".join(tar.extractfile(path).read() for path in paths)
                for split, paths in self.files.items()
            }
        return {split: self._generate_examples(data) for split, data in contents.items()}

    def _generate_examples(self, data: bytes) -> Iterator[tuple[int, dict]]:
        records = np.frombuffer(data, np.uint8).reshape(-1, self.label_bytes + 3 * SIDE * SIDE)
        for index, record in enumerate(records):
            planes = record[self.label_bytes :].reshape(3, SIDE, SIDE)
            image = Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))
            yield index, {"image": image, "label": int(record[self.label_bytes - 1])}


class CluenetCifar10(_Cifar):
    """60,000 images of 32x32 pixels in 10 classes."""

    url = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    num_classes = 10
    files = {
        "train": [f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)],
        "test": ["cifar-10-batches-bin/test_batch.bin"],
    }
    names_file = "cifar-10-batches-bin/batches.meta.txt"
    label_bytes = 1


class CluenetCifar100(_Cifar):
    """60,000 images of 32x32 pixels in 100 classes (the fine labels)."""

    url = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
    num_classes = 100
    files = {"train": ["cifar-100-binary/train.bin"], "test": ["cifar-100-binary/test.bin"]}
    names_file = "cifar-100-binary/fine_label_names.txt"
    # A coarse label precedes the fine one.
    label_bytes = 2
