"""Flags that make XLA compile quickly: most of the tests' time would be compilation."""

import importlib.metadata


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
