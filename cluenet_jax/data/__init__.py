"""Datasets, their reading and their augmentation; imports no TensorFlow."""

from cluenet_jax.data.decode import decode_image
from cluenet_jax.data.device_augment import augment_on_device, normalize
from cluenet_jax.data.image_folder import list_pictures
from cluenet_jax.data.mixing import mix, soft_targets
from cluenet_jax.data.pipeline import (
    eval_batches,
    prepare_for_test,
    read_test_set,
    read_training_set,
    train_batches,
    train_indices,
)
from cluenet_jax.data.sources import Dataset, list_datasets, load_dataset, normalization

__all__ = [
    "Dataset",
    "augment_on_device",
    "decode_image",
    "eval_batches",
    "list_datasets",
    "list_pictures",
    "load_dataset",
    "mix",
    "normalization",
    "normalize",
    "prepare_for_test",
    "read_test_set",
    "read_training_set",
    "soft_targets",
    "train_batches",
    "train_indices",
]
