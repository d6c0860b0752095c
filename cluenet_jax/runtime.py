"""What is set up once per process, before any work: memory that is kept, programs that are kept."""

import contextlib
import ctypes
import os
import pathlib
import sys

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
_NEVER, _GROW_BY = -1, 256 * 2**20


def prepare() -> None:
    """Call it first in every program; libraries should not call it.

    Freed memory stays with the process, and compiled programs are kept in
    `~/.cache/cluenet_jax` (or `JAX_COMPILATION_CACHE_DIR`), so that the next start of the same
    run need not compile again; `JAX_ENABLE_COMPILATION_CACHE=false` turns that off.
    """
    keep_freed_memory()
    keep_compiled_programs()


def keep_freed_memory() -> None:
    """Stops glibc from giving large blocks back to the system; does nothing elsewhere.

    On a CPU every step takes gigabytes of fresh memory and gives them back. Fetching
    them page by page costs up to half of a training step.
    """
    if not sys.platform.startswith("linux") or "MALLOC_MMAP_MAX_" in os.environ:
        return
    with contextlib.suppress(OSError, AttributeError):  # Another C library.
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_MAX, 0)
        # Only the main arena can hold large blocks.
        libc.mallopt(_ARENA_MAX, 1)
        libc.mallopt(_TRIM_THRESHOLD, _NEVER)
        libc.mallopt(_TOP_PAD, _GROW_BY)


def keep_compiled_programs() -> None:
    """Turns JAX's persistent compilation cache on, unless the user has set it."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    import jax

    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(cache) / "cluenet_jax"))
