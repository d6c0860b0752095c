"""One run per workdir at a time."""

import contextlib
import os
import socket

import filelock
from etils import epath

from cluenet_jax.checkpoints.storage import absolute, is_bucket
from cluenet_jax.errors import UserError

_LOCK, _HOLDER = "lock", "lock_holder"


def lock_workdir(workdir: epath.Path, main_process: bool) -> contextlib.AbstractContextManager:
    """Creates a workdir and takes a lock on it, which is released when the process ends.

    Buckets (`gs://`) know no locks: nothing guards them.

    Args:
      workdir: The folder.
      main_process: Whether this is the main process of the run, the only one that locks.

    Returns:
      A context that releases the lock.

    Raises:
      UserError: The folder cannot be written, or another run is using it.
    """
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    absolute(workdir)  # Refuses a bucket that nothing here can reach.
    try:
        if not is_bucket(workdir):
            workdir.mkdir(parents=True, exist_ok=True)
        if not main_process:
            return contextlib.nullcontext()
        if is_bucket(workdir):
            # A bucket makes no folders: only writing shows whether it can be written.
            (workdir / _HOLDER).write_text(holder)
            return contextlib.nullcontext()
        lock = filelock.FileLock(workdir / _LOCK).acquire(timeout=0)
        (workdir / _HOLDER).write_text(holder)
        return lock
    except filelock.Timeout as error:
        other = workdir / _HOLDER
        raise UserError(
            f"Another run is using {workdir} ({other.read_text() if other.exists() else '?'}); "
            "give another --workdir, or end that one first."
        ) from error
    except Exception as error:  # Clients of buckets raise whatever they meet.
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"The workdir {workdir} cannot be written: {reason}.") from error
