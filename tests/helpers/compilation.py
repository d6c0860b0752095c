"""Settings that make XLA compile quickly: most of the tests' time would be compilation."""

import contextlib
import importlib.metadata
from collections.abc import Iterator


def xla_flags(devices: int) -> str:
    """For `devices` CPU devices in one process; imports no JAX."""
    flags = [
        f"--xla_force_host_platform_device_count={devices}",
        "--xla_backend_optimization_level=0",
    ]
    major, minor = importlib.metadata.version("jax").split(".")[:2]
    if (int(major), int(minor)) < (0, 11):
        # Later versions do not know it, and refuse to start.
        flags.append("--xla_cpu_use_fusion_emitters=false")
    return " ".join(flags)


@contextlib.contextmanager
def least_effort_compiled() -> Iterator[None]:
    """For TPU programs: the same operations and exchanges, less well scheduled and placed."""
    import jax

    effort = "jax_exec_time_optimization_effort"
    before = getattr(jax.config, effort)
    jax.config.update(effort, -1.0)
    try:
        yield
    finally:
        jax.config.update(effort, before)
