"""Search for the largest batch that fits, in few compilations."""

import logging
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
    """The largest batch per device whose training step fits, 0 if none does.

    Powers of two are tried from where the first compilation suggests, then sizes between, until
    an eighth of the answer is left.

    Args:
      compile_with: From a batch size over all devices to its training step.
      memory_bytes: Of a device.
      first: The training step of the recipe's own batch.
      unit: The batch per device is a multiple of it.
      num_devices: In the slice.
    """

    def fits(units: int) -> bool:
        per_device = units * unit
        program = compile_with(per_device * num_devices)
        fitting = program.fits(memory_bytes)
        _LOG.info(
            "%d a device: %s (%.0f s)",
            per_device,
            "fits" if fitting else "does not fit",
            program.seconds,
        )
        return fitting

    own = first.batch_size // num_devices // unit
    return unit * search(fits, own, first.fits(memory_bytes), _suggested(first, memory_bytes, own))


def search(fits: Callable[[int], bool], own: int, own_fits: bool, suggested: int) -> int:
    """The largest number that fits, to an eighth of it; 0 if 1 does not fit.

    Args:
      fits: Whether a number fits; if it does, so do smaller ones.
      own: A number that was tried.
      own_fits: Whether it fits.
      suggested: A guess.
    """
    low, high = (own, None) if own_fits else (0, own)
    candidate = 2 ** (max(1, suggested).bit_length() - 1)
    while low == 0 or high is None:
        if low == 0 and high == 1:
            return 0
        if low and candidate <= low:
            candidate = 2 ** low.bit_length()
        if high and candidate >= high:
            candidate = 2 ** ((high - 1).bit_length() - 1)
        low, high = (candidate, high) if fits(candidate) else (low, candidate)
    while high - low > max(1, low * _PRECISION):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _suggested(program: CompiledProgram, memory_bytes: int, own: int) -> int:
    """Where all temporaries and the input grow with the batch, and nothing else does."""
    if program.memory is None:
        return own // 2
    growing = program.memory.temporaries + program.memory.batch
    return max(1, int((memory_bytes - program.memory.total + growing) / max(1, growing) * own))


def with_batch_size(
    config: ml_collections.ConfigDict, batch_size: int
) -> ml_collections.ConfigDict:
    """A copy of a configuration that trains with another batch."""
    copy = config.copy_and_resolve_references()
    copy.optim.batch_size = batch_size
    return copy
