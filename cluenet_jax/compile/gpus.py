"""NVIDIA GPUs by the names that people use, and their devices for compilation alone."""

import dataclasses
import importlib.util
import os
import re
from typing import Any

import jax

from cluenet_jax.errors import UserError

# JAX takes this fraction of a GPU's memory when it starts (docs.jax.dev, "GPU memory allocation");
# XLA_PYTHON_CLIENT_MEM_FRACTION changes it.
MEMORY_FRACTION = 0.75
_PER_HOST = 8
_PLUGIN = "jax_cuda13_plugin"


@dataclasses.dataclass(frozen=True)
class GpuKind:
    """A kind of GPU, as CUDA describes it.

    Attributes:
      description: Its full name.
      memory_bytes: All of one GPU's memory.
      bandwidth: Of that memory, bytes per second.
    """

    description: str
    memory_bytes: int
    bandwidth: int


# What CUDA reports of the SXM modules: the H100's figures stand in XLA's own tests; the H200 is the
# same chip with more memory (NVIDIA's data sheet: 141 GB, 4.8 TB/s), of which 139.8 GiB are seen.
KINDS = {
    "h100": GpuKind("NVIDIA H100 80GB HBM3", 84_942_979_072, 3_352_320_000_000),
    "h200": GpuKind("NVIDIA H200", int(139.8 * 2**30), 4_800_000_000_000),
}
# Of XLA's description of a device: both are of compute capability 9.0, with 132 multiprocessors.
_DEVICE: dict[str, Any] = {
    "threads_per_block_limit": 1024,
    "threads_per_warp": 32,
    "shared_memory_per_block": 49152,
    "shared_memory_per_block_optin": 232448,
    "shared_memory_per_core": 233472,
    "threads_per_core_limit": 2048,
    "core_count": 132,
    "fpus_per_core": 128,
    "block_dim_limit_x": 2147483647,
    "block_dim_limit_y": 65535,
    "block_dim_limit_z": 65535,
    "l2_cache_size": 52428800,
    "clock_rate_ghz": 1.98,
    "registers_per_core_limit": 65536,
    "registers_per_block_limit": 65536,
}


@dataclasses.dataclass(frozen=True)
class Gpus:
    """GPUs, eight to a host; as `cluenet_jax.compile.topologies.TpuSlice`.

    Attributes:
      kind: A name of `KINDS`.
      num_devices: How many.
    """

    kind: str
    num_devices: int

    @property
    def name(self) -> str:
        """Such as `h100:8`."""
        return f"{self.kind}:{self.num_devices}"

    @property
    def memory_bytes(self) -> int:
        """Memory of one GPU that programs can have."""
        return int(MEMORY_FRACTION * KINDS[self.kind].memory_bytes)

    def devices(self) -> list[jax.Device]:
        """Devices to compile for; nothing can run on them.

        Raises:
          UserError: JAX's plugin for CUDA is missing, or refuses them.
        """
        if importlib.util.find_spec(_PLUGIN) is None:
            raise UserError(
                f"--topology={self.name}: JAX's compiler for GPUs is not installed: "
                "`pip install 'cluenet-jax[compile_gpu]'`."
            )
        jax.config.update("jax_platforms", "cpu")
        from jax.experimental import topologies

        hosts = -(-self.num_devices // _PER_HOST)
        try:
            return topologies.get_topology_desc(
                platform="cuda",
                topology_name="",
                target_config=_target(KINDS[self.kind]),
                topology=f"1x{hosts}x{self.num_devices // hosts}",
            ).devices
        except Exception as error:
            raise UserError(f"--topology={self.name}: XLA refuses it ({error}).") from error


def find_gpus(name: str) -> Gpus | None:
    """The GPUs of a name such as `h100:8`, None if it is no name of a GPU.

    Raises:
      UserError: A number of GPUs that hosts of eight do not make.
    """
    match = re.fullmatch(rf"({'|'.join(KINDS)})[:-]([1-9]\d*)", name.lower())
    if not match:
        return None
    count = int(match[2])
    if count > _PER_HOST and count % _PER_HOST:
        raise UserError(
            f"--topology={name}: hosts have {_PER_HOST} GPUs; give at most {_PER_HOST}, or a "
            "multiple of it."
        )
    return Gpus(match[1], count)


def compiler_options() -> dict[str, str]:
    """Options of XLA where there is no GPU: no form is tried out, CUDA's tools are pip's."""
    options = {"xla_gpu_autotune_level": "0"}
    nvidia = importlib.util.find_spec("nvidia")
    for folder in (nvidia and nvidia.submodule_search_locations) or ():
        options["xla_gpu_cuda_data_dir"] = os.path.join(folder, "cu13")
    return options


def _target(kind: GpuKind) -> str:
    """XLA's `GpuTargetConfigProto` in text form."""
    device = _DEVICE | {
        "memory_bandwidth": kind.bandwidth,
        "device_memory_size": kind.memory_bytes,
    }
    fields = " ".join(f"{name}: {value}" for name, value in device.items())
    return (
        f"gpu_device_info {{ {fields} cuda_compute_capability {{ major: 9 }} }} "
        'platform_name: "CUDA" dnn_version_info { major: 9 minor: 12 } '
        f'runtime_version {{ major: 13 }} device_description_str: "{kind.description}"'
    )
