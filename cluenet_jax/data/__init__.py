"""Datasets, their reading and their augmentation; imports no TensorFlow."""

from cluenet_jax.data.decode import decode_image
from cluenet_jax.data.device_augment import augment_on_device, normalize
from cluenet_jax.data.pipeline import eval_batches, prepare_for_test, train_batches
from cluenet_jax.data.sources import Dataset, list_datasets, load_dataset

__all__ = [
    "Dataset",
    "augment_on_device",
    "decode_image",
    "eval_batches",
    "list_datasets",
    "load_dataset",
    "normalize",
    "prepare_for_test",
    "train_batches",
]
