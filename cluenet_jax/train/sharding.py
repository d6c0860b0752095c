"""Sharding of arrays: one mesh over all devices, the batch split over it."""

import importlib.util
import logging
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

_LOG = logging.getLogger(__name__)
AXIS = "data"


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of `devices`, by default all of all processes, for data parallelism."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """A full copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def fsdp_sharding(mesh: Mesh, tree: Any) -> Any:
    """Arrays split over the devices along their longest axis that divides evenly (FSDP).

    Args:
      mesh: The devices.
      tree: Leaves with a `shape`; those that no axis fits are replicated.

    Returns:
      The same tree of shardings.
    """
    devices = mesh.devices.size

    def sharding_of(leaf: Any) -> NamedSharding:
        fitting = [axis for axis, size in enumerate(leaf.shape) if size and size % devices == 0]
        if not fitting:
            return replicated(mesh)
        axis = max(fitting, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, AXIS))

    return jax.tree.map(sharding_of, tree)


def gathered(mesh: Mesh, tree: Any) -> Any:
    """Arrays whole on every device, in a program that has them split.

    Without it XLA may move activations between the devices that hold parts of a parameter.
    """
    return jax.lax.with_sharding_constraint(tree, replicated(mesh))


def split_batch(mesh: Mesh) -> NamedSharding:
    """The first axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def to_devices(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows on its devices, as global arrays split by their first axis."""
    sharding = split_batch(mesh)
    return {
        key: jax.make_array_from_process_local_data(sharding, rows) for key, rows in batch.items()
    }


def initialize_distributed(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Joins the processes of a run over many hosts; does nothing on a single one.

    Hosts of a TPU slice find each other; elsewhere all three arguments are given,
    as to `jax.distributed.initialize`. Call it before any other use of JAX.
    """
    if coordinator is not None:
        jax.distributed.initialize(coordinator, num_processes, process_id)
    elif importlib.util.find_spec("libtpu"):
        try:
            jax.distributed.initialize()
        except ValueError as error:
            _LOG.info("Not on a TPU slice, a single process: %s", error)
