"""One run per workdir at a time."""

import contextlib
import os
import socket

from etils import epath

from cluenet_jax.errors import UserError
from cluenet_jax.train.storage import absolute, is_bucket

NAME = "lock"


def lock_workdir(workdir: epath.Path, first: bool) -> contextlib.AbstractContextManager:
    """Creates a workdir and takes a lock on it, which is let go of when the process ends.

    Buckets (`gs://`) know no locks: nothing guards them.

    Args:
      first: Whether this is the first of the run's processes, the only one that locks.

    Returns:
      What lets go of the lock when it is left.

    Raises:
      UserError: The folder cannot be written, or another run is using it.
    """
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    absolute(workdir)  # Refuses a bucket that nothing here can reach.
    try:
        if is_bucket(workdir):
            if first:
                # A bucket makes no folders: only writing shows whether it can be written.
                (workdir / NAME).write_text(holder)
            return contextlib.nullcontext()
        workdir.mkdir(parents=True, exist_ok=True)
        if not first:
            return contextlib.nullcontext()
        file = open(workdir / NAME, "a+")
    except Exception as error:  # Clients of buckets raise whatever they meet.
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"The workdir {workdir} cannot be written: {reason}.") from error
    import fcntl  # Not on Windows.

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        raise UserError(
            f"Another run is using {workdir} ({file.read().strip()}); give another --workdir, or "
            "end that one first."
        ) from error
    file.truncate(0)
    file.write(holder)
    file.flush()
    return contextlib.closing(file)
