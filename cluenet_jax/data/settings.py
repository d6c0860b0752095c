"""The checks of the sections `data` and `eval` of a configuration."""

import ml_collections

from cluenet_jax.data.datasets import check_task, list_datasets
from cluenet_jax.data.transforms import INTERPOLATIONS
from cluenet_jax.settings import (
    check_batch_size,
    check_settings,
    flag,
    integer,
    number,
    one_of,
    require,
    text,
)

DATA = {
    "name": one_of(list_datasets()),
    "dir": text(),
    "train_split": text(),
    "eval_split": text(),
    "image_size": integer(1),
    "num_workers": integer(-1),
    "num_repeats": integer(1),
    "cache": flag(),
    "max_corrupt_fraction": number(least=0, below=1),
}
EVAL = {"every": number(above=0), "resize": integer(0), "interpolation": one_of(INTERPOLATIONS)}


def check_data(config: ml_collections.ConfigDict, device_count: int) -> None:
    """Raises a UserError for a value in these sections that cannot be meant."""
    data = config.data
    check_settings(data, "data", DATA)
    check_task(data.name, config.task)
    check_settings(config.eval, "eval", EVAL)
    check_batch_size(config.eval.batch_size, "eval.batch_size", device_count)
    require(
        not (data.cache and data.num_workers),
        "data.cache",
        True,
        f"a cache is in the memory of one process; data.num_workers={data.num_workers} must be 0",
    )
    shorter = config.eval.resize
    require(
        shorter == 0 or shorter >= data.image_size,
        "eval.resize",
        shorter,
        f"must be 0 (no crop) or at least data.image_size={data.image_size}",
    )
