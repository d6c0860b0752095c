"""Batches on the devices: read as they are needed, or looked up among pictures that live there."""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh

from cluenet_jax.data import (
    Dataset,
    eval_batches,
    read_test_set,
    read_training_set,
    train_batches,
    train_indices,
)
from cluenet_jax.errors import UserError
from cluenet_jax.train.sharding import replicated, split_batch, to_devices

Batch = dict[str, jax.Array]


def open_feed(dataset: Dataset, config: ml_collections.ConfigDict, mesh: Mesh):
    """The feed that `data.on_device` asks for; both kinds give the same batches."""
    return (Resident if config.data.on_device else Streamed)(dataset, config, mesh)


def test_batches(
    dataset: Dataset, config: ml_collections.ConfigDict, mesh: Mesh
) -> Iterator[Batch]:
    """Reads every test example once, as `eval_batches` does, onto the devices."""
    settings = {"batch_size": config.eval.batch_size, **_processes()}
    for batch in eval_batches(dataset.test, config.data, **settings):
        yield to_devices(batch, mesh)


class Streamed:
    """Reads pictures as they are needed."""

    def __init__(self, dataset: Dataset, config: ml_collections.ConfigDict, mesh: Mesh):
        self._dataset, self._config, self._mesh = dataset, config, mesh
        self._stream = None

    @property
    def broken(self) -> int:
        """Broken training pictures met so far by this process."""
        return len(self._stream.broken) if self._stream else 0

    def train(self, start_step: int) -> Iterator[Batch]:
        """Endless batches from the one after `start_step` on: `image`, `label`."""
        self._stream = train_batches(
            self._dataset.train, self._config.data, **_order(self._config, start_step)
        )
        for batch in self._stream:
            yield to_devices(batch, self._mesh)

    def test(self) -> Iterator[Batch]:
        """Every test example once: `image`, `label`, `mask`."""
        return test_batches(self._dataset, self._config, self._mesh)

    def close(self) -> None:
        """Ends the threads or processes that read."""
        if self._stream:
            self._stream.close()


class Resident:
    """Reads all pictures of a split when first asked; every device then holds a copy of them.

    Raises:
      UserError: They need more than half the memory of a device.
    """

    def __init__(self, dataset: Dataset, config: ml_collections.ConfigDict, mesh: Mesh):
        _check_memory(dataset, config.data.image_size)
        self._dataset, self._config, self._mesh = dataset, config, mesh
        self.broken = 0
        self._look_up = jax.jit(_rows, out_shardings=split_batch(mesh))

    def train(self, start_step: int) -> Iterator[Batch]:
        """As `Streamed.train`."""
        table, broken = read_training_set(self._dataset.train, self._config.data)
        self.broken = len(broken)
        kept = self._keep(table)
        order = _order(self._config, start_step)
        for index in train_indices(len(table["label"]), self._config.data, **order):
            yield self._look_up(kept, to_devices({"index": index}, self._mesh)["index"])

    def test(self) -> Iterator[Batch]:
        """As `Streamed.test`."""
        rows = self._config.eval.batch_size // jax.process_count()
        for first in range(
            jax.process_index() * rows, len(self._test["mask"]), rows * jax.process_count()
        ):
            index = np.arange(first, first + rows, dtype=np.int32)
            yield self._look_up(self._test, to_devices({"index": index}, self._mesh)["index"])

    @functools.cached_property
    def _test(self) -> Batch:
        settings = {"batch_size": self._config.eval.batch_size}
        return self._keep(read_test_set(self._dataset.test, self._config.data, **settings))

    def _keep(self, table: dict[str, np.ndarray]) -> Batch:
        """A copy on every device."""
        everywhere = replicated(self._mesh)
        return {
            key: jax.make_array_from_process_local_data(everywhere, rows, rows.shape)
            for key, rows in table.items()
        }

    def close(self) -> None:
        """Nothing to end."""


def _rows(table: Batch, index: jax.Array) -> Batch:
    return {key: jnp.take(rows, index, axis=0) for key, rows in table.items()}


def _processes() -> dict[str, int]:
    return {"process_index": jax.process_index(), "process_count": jax.process_count()}


def _order(config: ml_collections.ConfigDict, start_step: int) -> dict[str, int]:
    return {
        "batch_size": config.optim.batch_size,
        "seed": config.seed,
        "start_step": start_step,
        **_processes(),
    }


def _check_memory(dataset: Dataset, image_size: int) -> None:
    needed = (len(dataset.train) + len(dataset.test)) * 3 * image_size**2
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    if limit and needed > limit / 2:
        raise UserError(
            f"config.data.on_device=True: the pictures need {needed / 2**30:.1f} GiB, more than "
            f"half of a device's {limit / 2**30:.1f}; leave it False."
        )
