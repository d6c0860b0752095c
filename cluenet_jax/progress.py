"""Progress of what one waits for: lines that say what is being done, bars on a terminal."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import tqdm

_LOG = logging.getLogger(__name__)


def announce_compiling(
    function: Callable, name: str, say: Callable[[str], None] | None = None
) -> Callable:
    """The same function; its first call, which compiles, is announced and timed by one process.

    Where shapes differ, what is compiled for later ones is not announced.

    Args:
      function: A jitted function, or one that calls such.
      name: What it does, such as "training step".
      say: Called with each line; the log by default.
    """
    say = say or _LOG.info
    compiled = False

    def call(*arguments):
        nonlocal compiled
        if compiled or jax.process_index() != 0:
            return function(*arguments)
        say(f"Compiling the {name} (usually 10 s to a minute; less where it was compiled before).")
        begin = time.perf_counter()
        result = function(*arguments)
        compiled = True
        say(f"Compiled the {name} in {time.perf_counter() - begin:.1f} s.")
        return result

    return call


def bar(
    items: Iterable[Any],
    name: str,
    total: int | None = None,
    size: Callable[[Any], int] = lambda item: 1,
) -> Iterator[Any]:
    """Yields the items; on a terminal, a bar on stderr shows how many, how fast, how long yet.

    Args:
      items: What is worked on, one after the other.
      name: The work, such as "Evaluation".
      total: Examples in all; None if that is not known.
      size: How many examples an item is.
    """
    # Off a terminal tqdm shows nothing by itself; of many processes one is enough.
    disable = None if jax.process_index() == 0 else True
    with tqdm.tqdm(
        total=total, desc=name, unit="example", disable=disable, leave=False, dynamic_ncols=True
    ) as shown:
        for item in items:
            yield item
            shown.update(size(item))


def say_beside_bars(message: str) -> None:
    """A line on stderr; a bar that is shown there stays whole."""
    tqdm.tqdm.write(message, file=sys.stderr)
