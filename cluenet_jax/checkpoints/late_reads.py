"""Reads that still run when a restore has failed, and what Python would print about them.

Orbax raises for the first array that cannot be read and closes the event loop of all the others.
They end later: TensorStore's threads find the loop closed, and the coroutines raise while they are
thrown away. Python reports each one with a traceback, through `sys.unraisablehook`; the error that
Orbax raised has said it all before.
"""

import contextlib
import gc
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

_READERS = ("/orbax/", "/tensorstore/")


@contextlib.contextmanager
def late_reads_unreported() -> Iterator[None]:
    """Drops the reports about reads that a restore, made within, leaves behind.

    After an error the filter stays for the rest of the process: TensorStore's threads may end at
    any time.
    """
    previous = sys.unraisablehook
    if not isinstance(previous, _Filter):
        sys.unraisablehook = _Filter(previous)
    try:
        yield
    except Exception as error:
        _throw_away(error)
        raise
    sys.unraisablehook = previous


class _Filter:
    """A `sys.unraisablehook` that hands on all but late reads."""

    def __init__(self, previous: Callable[[Any], object]):
        self._previous = previous

    def __call__(self, report: Any) -> None:
        if not is_late_read(report):
            self._previous(report)


def is_late_read(report: Any) -> bool:
    """Whether `sys.unraisablehook` was called for a read that nobody waits for."""
    frames = traceback.extract_tb(report.exc_traceback)
    files = [frame.filename for frame in frames]
    code = getattr(report.object, "cr_code", None)
    if code is not None:
        files.append(code.co_filename)
    if any(reader in file.replace("\\", "/") for file in files for reader in _READERS):
        return True
    # No Python code called it: a thread of TensorStore did.
    called = bool(frames) and frames[0].name == "call_soon_threadsafe"
    return called and str(report.exc_value) == "Event loop is closed"


def _throw_away(error: BaseException) -> None:
    """Ends the coroutines that the error's frames keep, here rather than at the process's end."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
    gc.collect()
