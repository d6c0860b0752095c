"""Search for the largest batch that fits, in few compilations."""

import logging
import math
from collections.abc import Callable

import ml_collections

from cluenet_jax.compile.programs import CompiledProgram

_LOG = logging.getLogger(__name__)
# The answer is exact to this fraction of it.
_PRECISION = 1 / 8


def largest_batch(
    compile_with: Callable[[int], CompiledProgram],
    memory_bytes: int,
    first: CompiledProgram,
    unit: int,
    num_devices: int,
) -> int:
    """The largest batch per device whose training step fits, to an eighth of it; 0 if none does.

    Args:
      compile_with: From a batch size over all devices to its training step.
      memory_bytes: Of a device.
      first: The training step of the recipe's own batch.
      unit: The batch per device is a multiple of it.
      num_devices: In the slice.
    """

    def memory_of(units: int) -> int | None:
        program = compile_with(units * unit * num_devices)
        needed = program.memory.total if program.memory else None
        _LOG.info(
            "%d a device: %s (%.0f s)",
            units * unit,
            "refused" if needed is None else f"{needed / 2**30:.2f} GiB",
            program.seconds,
        )
        return needed

    known = {0: fixed_memory(first)}
    known[first.batch_size // num_devices // unit] = first.memory.total if first.memory else None
    return unit * search(memory_of, memory_bytes, known)


def fixed_memory(program: CompiledProgram) -> int:
    """Bytes that do not grow with the batch, if all temporaries do; 0 for a refused program."""
    memory = program.memory
    return memory.total - memory.temporaries - memory.batch if memory else 0


def search(
    memory_of: Callable[[int], int | None], memory_bytes: int, known: dict[int, int | None]
) -> int:
    """The largest batch that fits, to an eighth of it; 0 if 1 does not fit.

    The next batch to try is a little below where a line through the two largest known ones meets
    the memory of the device; once that fits, an eighth above it.

    Args:
      memory_of: Bytes that a batch needs, None if it is refused.
      memory_bytes: Of a device.
      known: What is known of it, 0 and one other batch at least.
    """
    known, step = dict(known), _PRECISION
    while True:
        needed = {n: math.inf if known[n] is None else known[n] for n in known}
        fitting = [n for n in known if n == 0 or needed[n] <= memory_bytes]
        low = max(fitting)
        high = min((n for n in known if n not in fitting), default=None)
        if high is not None and high - low <= max(1, low * _PRECISION):
            return low
        candidate = int(_expected(known, memory_bytes) * (1 - _PRECISION / 2))
        if candidate < low + max(1, int(low * step)):
            candidate = low + max(1, int(low * step))
            step *= 2
        if high is not None and candidate >= high:
            candidate = (low + high) // 2
        known[candidate] = memory_of(candidate)


def _expected(known: dict[int, int | None], memory_bytes: int) -> float:
    """Where memory, as a line through the two largest known batches, meets that of a device."""
    points = sorted((n, needed) for n, needed in known.items() if needed is not None)[-2:]
    if len(points) < 2:
        return 0
    (n0, needed0), (n1, needed1) = points
    slope = (needed1 - needed0) / (n1 - n0)
    return n1 + (memory_bytes - needed1) / slope if slope > 0 else 2 * n1


def with_batch_size(
    config: ml_collections.ConfigDict, batch_size: int
) -> ml_collections.ConfigDict:
    """A copy of a configuration that trains with another batch."""
    copy = config.copy_and_resolve_references()
    copy.optim.batch_size = batch_size
    return copy
