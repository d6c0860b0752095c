"""Slices of TPUs, and GPUs, by the names that people use; devices for compilation alone."""

import dataclasses
import importlib.util
import math
import os
import platform
import re
from typing import Any

import jax

from cluenet_jax.compile.gpus import KINDS, Gpus, find_gpus
from cluenet_jax.errors import UserError

_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Generation:
    """A generation of TPUs.

    Attributes:
      memory_bytes: Of one device, that programs can have.
      dimensions: Of its slices: 2 or 3.
      cores_in_name: TensorCores per chip that `v4-32` counts; one where it counts chips.
      options: Of libtpu, for one device per chip as on a TPU VM.
    """

    memory_bytes: int
    dimensions: int
    cores_in_name: int = 1
    options: tuple[tuple[str, Any], ...] = ()


# Memory: what libtpu 0.0.42 itself calls available when a program does not fit ("exceeds
# available HBM"). Google's pages give the whole: 32, 16, 95 and 32 GB a chip
# (docs.cloud.google.com/tpu/docs/v4, v5e, v5p, v6e).
# Without "megacore" libtpu describes each v4 chip as two devices, which no TPU VM shows.
GENERATIONS = {
    "v4": Generation(int(30.75 * _GIB), 3, 2, (("chip_config_name", "megacore"),)),
    "v5e": Generation(int(15.75 * _GIB), 2),
    "v5p": Generation(int(95.74 * _GIB), 3, 2, (("chip_config_name", "megacore"),)),
    "v6e": Generation(int(31.25 * _GIB), 2),
}
_OTHER_NAMES = {"v5litepod": "v5e", "v5lite": "v5e"}
# Chips of a slice: its shape.
_SHAPES = {
    2: {
        1: (1, 1),
        4: (2, 2),
        8: (2, 4),
        16: (4, 4),
        32: (4, 8),
        64: (8, 8),
        128: (8, 16),
        256: (16, 16),
    },
    3: {
        4: (2, 2, 1),
        8: (2, 2, 2),
        16: (2, 2, 4),
        32: (2, 4, 4),
        64: (4, 4, 4),
        128: (4, 4, 8),
        256: (4, 8, 8),
        512: (8, 8, 8),
    },
}


@dataclasses.dataclass(frozen=True)
class TpuSlice:
    """A slice of TPUs, one device per chip.

    Attributes:
      generation: A name of `GENERATIONS`.
      shape: Chips along each axis.
    """

    generation: str
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """Such as `v5e:4x4`."""
        return f"{self.generation}:{'x'.join(map(str, self.shape))}"

    @property
    def num_devices(self) -> int:
        """Chips."""
        return math.prod(self.shape)

    @property
    def memory_bytes(self) -> int:
        """Memory of one device that programs can have."""
        return GENERATIONS[self.generation].memory_bytes

    def devices(self) -> list[jax.Device]:
        """Devices to compile for; nothing can run on them.

        Raises:
          UserError: libtpu is missing, this machine has none, or libtpu has no such slice.
        """
        check_machine()
        prepare_environment()
        from jax.experimental import topologies

        options = dict(GENERATIONS[self.generation].options)
        if self.num_devices == 1:
            options["chips_per_host_bounds"] = (1, 1, 1)
        try:
            return topologies.get_topology_desc(
                platform="tpu", topology_name=self.name, **options
            ).devices
        except Exception as error:
            raise UserError(f"--topology={self.name}: libtpu refuses it ({error}).") from error


# What programs are compiled for.
Topology = TpuSlice | Gpus


def find_topology(name: str) -> Topology:
    """What a name such as `v5e:4x4`, `v5e-16`, `v4-32` (which counts cores) or `h100:8` means.

    Raises:
      UserError: No such slice; says which there are.
    """
    if gpus := find_gpus(name):
        return gpus
    match = re.fullmatch(r"(?P<generation>\w+)[:-](?P<size>[1-9]\d*(x[1-9]\d*)*)", name.lower())
    generation = match and _OTHER_NAMES.get(match["generation"], match["generation"])
    if generation not in GENERATIONS:
        raise UserError(f"--topology={name}: there is no such slice. {_known()}")
    facts = GENERATIONS[generation]
    if "x" in match["size"]:
        shape = tuple(map(int, match["size"].split("x")))
        if len(shape) != facts.dimensions:
            raise UserError(
                f"--topology={name}: slices of {generation} have {facts.dimensions} axes, such as "
                f"{generation}:{'x'.join(map(str, _SHAPES[facts.dimensions][8]))}."
            )
        return TpuSlice(generation, shape)
    shapes = _SHAPES[facts.dimensions]
    shape = shapes.get(int(match["size"]) / facts.cores_in_name)
    if shape is None:
        sizes = ", ".join(f"{generation}-{chips * facts.cores_in_name}" for chips in shapes)
        raise UserError(f"--topology={name}: no such size. There are {sizes}.")
    return TpuSlice(generation, shape)


def _known() -> str:
    return (
        f"Generations: {', '.join(GENERATIONS)}; slices by shape, such as v5e:4x4 and v4:2x2x4, or "
        "by Google's names, such as v5e-16, v6e-8 and v4-32 (cores; 16 chips). GPUs: "
        f"{', '.join(KINDS)}, and how many, such as h100:8 and h200:1."
    )


def check_machine() -> None:
    """Raises a UserError unless libtpu is installed and this machine can load it."""
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise UserError(
            f"Compiling for TPUs needs libtpu, which is for Linux on x86-64; this is {system} on "
            f"{machine}."
        )
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("libtpu is not installed: `pip install 'cluenet-jax[compile]'`.")


def prepare_environment() -> None:
    """Keeps JAX on the CPU, and libtpu from looking for a TPU; call it before JAX is used."""
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    os.environ["TPU_WORKER_HOSTNAMES"] = "localhost"
    # Of any kind: without one libtpu prints a warning, and slices here do not depend on it.
    os.environ["TPU_ACCELERATOR_TYPE"] = "v5litepod-4"
    # Several compilations at a time are fine: none uses a TPU.
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
    jax.config.update("jax_platforms", "cpu")
