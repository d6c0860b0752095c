"""The 1,797 scanned digits that come with scikit-learn; no download.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits,
UCI Machine Learning Repository, 1998 (its test part).
"""

from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

SIDE = 32
TEST_SIZE = 360


class CluenetDigits(tfds.core.GeneratorBasedBuilder):
    """8x8 grey scans enlarged to 32x32 RGB; 1,437 train and 360 test, stratified."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIDE, SIDE, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
                }
            ),
            description=__doc__,
        )

    def _split_generators(self, dl_manager):
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        everything = np.arange(len(digits.target))
        train, test = train_test_split(
            everything, test_size=TEST_SIZE, stratify=digits.target, random_state=0
        )
        return {
            "train": self._generate_examples(digits, train),
            "test": self._generate_examples(digits, test),
        }

    def _generate_examples(self, digits, indices: np.ndarray) -> Iterator[tuple[int, dict]]:
        for index in indices:
            # Values are 0 .. 16.
            grey = Image.fromarray(np.round(digits.images[index] * (255 / 16)).astype(np.uint8))
            image = grey.resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert("RGB")
            yield int(index), {"image": image, "label": int(digits.target[index])}
