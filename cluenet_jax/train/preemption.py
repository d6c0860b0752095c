"""The early end of a run without losing a step: SIGTERM (preemption) and Ctrl-C."""

import contextlib
import os
import signal
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils

from cluenet_jax.errors import Interrupted


class Preemption:
    """Whether the run was asked to end.

    A single process notes the signal; of many, JAX's preemption service agrees on a step that
    all of them end at (there SIGTERM to one process is enough).
    """

    def __init__(self):
        self._signal: int | None = None

    def note(self, number: int, _frame: object = None) -> None:
        """Remembers a signal; the second Ctrl-C ends at once."""
        self._signal = number
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def requested(self, step: int) -> bool:
        """Whether to end after this step, the same on all processes."""
        if jax.process_count() == 1:
            return self._signal is not None
        if multihost_utils.reached_preemption_sync_point(step):
            self._signal = signal.SIGTERM
        return self._signal is not None

    def error(self, step: int, workdir: object) -> Interrupted:
        """What to raise once everything is saved: its code is 128 and the signal's number."""
        name = signal.Signals(self._signal).name
        return Interrupted(
            f"Ended by {name} after step {step}, which is saved in {workdir}: the same command "
            "resumes from there.",
            128 + self._signal,
        )


def _as_sigterm(_number: int, _frame: object = None) -> None:
    """Makes Ctrl-C a SIGTERM, of which the other processes are told; the second ends at once."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def watch_for_signals() -> Iterator[Preemption]:
    """Notes SIGTERM and Ctrl-C inside the block instead of ending the process."""
    preemption = Preemption()
    if jax.process_count() == 1:
        handlers = dict.fromkeys((signal.SIGTERM, signal.SIGINT), preemption.note)
    else:
        # The preemption service has its own handler for SIGTERM.
        handlers = {signal.SIGINT: _as_sigterm}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield preemption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
