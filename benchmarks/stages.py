"""Fractions of a compiled program's time that the parts of a model take, from JAX's profiler."""

import collections
import pathlib
import re
import tempfile
from collections.abc import Callable

import jax
from jax.profiler import ProfileData

# Loops and calls, whose operations have times of their own.
_CONTAINERS = re.compile(r"(while|call|conditional)\b")
_OPERATION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = .*op_name=\"([^\"]*)\"", re.MULTILINE)
# Scopes are such as `backbone/stage1_block0/attention` and `head/linear`.
_PART = re.compile(r"\b(embed|stage\d|pool\d|head)")


def time_fractions(
    program: jax.stages.Compiled, run: Callable[[], None], num_runs: int = 3
) -> dict[str, float]:
    """Fractions of the time spent in operations, which sum to 1.

    Args:
      program: A program whose operations are named by the modules they come from.
      run: A function that runs the program once, to its end.
      num_runs: Number of runs.

    Returns:
      By `embed`, `stage1` .. `stage4`, `pool1` .. `pool3`, `head` and `other` (the optimizer,
      copies and what XLA made of several parts), those that there are.
    """
    parts = {}
    for name, scope in _OPERATION.findall(program.as_text()):
        match = _PART.search(scope)
        parts[name] = match.group(1) if match else "other"
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(num_runs):
                run()
        (file,) = pathlib.Path(folder).rglob("*.xplane.pb")
        profile = ProfileData.from_file(str(file))
    spent = collections.Counter()
    planes = list(profile.planes)
    # Where there are accelerators, the host's own events would count twice.
    planes = [plane for plane in planes if plane.name.startswith("/device:")] or planes
    for plane in planes:
        for line in plane.lines:
            for event in line.events:
                # Kernels of a GPU have names of their own.
                name = dict(event.stats).get("hlo_op")
                if name and not _CONTAINERS.match(name):
                    spent[parts.get(name, "other")] += event.duration_ns
    total = sum(spent.values())
    return {part: spent[part] / total for part in sorted(spent)}
