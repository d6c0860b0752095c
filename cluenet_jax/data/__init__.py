"""Datasets, their reading and their augmentation; imports no TensorFlow."""

from cluenet_jax.data.batch_augment import ERASE_MODES, augment_images, mix
from cluenet_jax.data.datasets import (
    DATASETS,
    Dataset,
    DatasetInfo,
    check_task,
    describe_dataset,
    list_datasets,
    load_dataset,
    normalization,
)
from cluenet_jax.data.decode import decode_image, image_size
from cluenet_jax.data.decode_mask import IGNORED, MaskFormat, decode_mask, decode_pair
from cluenet_jax.data.image_files import list_images, read_image_file
from cluenet_jax.data.instances import Instances, decode_instances, encode_truth
from cluenet_jax.data.loader import TrainBatches, eval_batches, train_batches
from cluenet_jax.data.preprocess import Preprocessing
from cluenet_jax.data.records import Batch, Example, Record, Source, batched_by_shape, shapes_of
from cluenet_jax.data.transforms import INTERPOLATIONS

__all__ = [
    "DATASETS",
    "ERASE_MODES",
    "IGNORED",
    "INTERPOLATIONS",
    "Batch",
    "Dataset",
    "DatasetInfo",
    "Example",
    "Instances",
    "MaskFormat",
    "Preprocessing",
    "Record",
    "Source",
    "TrainBatches",
    "augment_images",
    "batched_by_shape",
    "check_task",
    "decode_image",
    "decode_instances",
    "decode_mask",
    "decode_pair",
    "describe_dataset",
    "encode_truth",
    "eval_batches",
    "image_size",
    "list_datasets",
    "list_images",
    "load_dataset",
    "mix",
    "normalization",
    "read_image_file",
    "shapes_of",
    "train_batches",
]
