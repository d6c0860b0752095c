"""Settings that make XLA compile quickly: most of the tests' time would be compilation."""

import contextlib
import importlib.metadata
import pathlib
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


@contextlib.contextmanager
def programs_kept(folder: pathlib.Path) -> Iterator[None]:
    """For this process: what is compiled, is compiled once."""
    import jax

    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
