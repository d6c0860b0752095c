"""What all command lines share: quiet libraries, and errors without tracebacks."""

import logging
import sys
from collections.abc import Callable

from absl import logging as absl_logging

from cluenet_jax import runtime
from cluenet_jax.errors import UserError


def quiet() -> None:
    """Shows our own lines plainly, and of the libraries only errors."""
    absl_logging.use_absl_handler()
    absl_logging.set_verbosity(absl_logging.ERROR)
    absl_logging.get_absl_handler().setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("cluenet_jax").setLevel(logging.INFO)
    # If several arrays of a checkpoint cannot be read, Orbax raises for the first and asyncio would
    # print a traceback for each other one.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)


def run(main: Callable[[list[str]], int | None]) -> None:
    """Runs a tool on the command line's arguments and ends the process.

    Args:
      main: Takes the arguments and returns an exit code (None for 0). A
        `UserError` ends in its message and code 2.
    """
    quiet()
    runtime.prepare()
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
