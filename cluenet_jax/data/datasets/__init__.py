"""Datasets: a table of names, and the sources of their records.

Importing it imports no dataset library: TFDS is imported when a dataset that needs it is loaded.
"""

from cluenet_jax.data.datasets.info import Dataset, DatasetInfo
from cluenet_jax.data.datasets.registry import (
    DATASETS,
    check_task,
    describe_dataset,
    list_datasets,
    load_dataset,
    normalization,
)

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetInfo",
    "check_task",
    "describe_dataset",
    "list_datasets",
    "load_dataset",
    "normalization",
]
