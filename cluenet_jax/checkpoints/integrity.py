"""Manifests: the sizes and digests of a saved step's files, compared before anything is restored.

Orbax reads many arrays at once. If one read fails, the others fail later, when nobody waits for
them any more; a checkpoint that is known to be corrupt is therefore never handed to Orbax.

`WORKDIR/checkpoints/STEP/manifest.json` covers every file of the step's items (`metadata_json`,
`variables`, `train`). It is written just before Orbax commits the step, so that a committed step
has one. A step without one (saved by an earlier version) is not corrupt: it is handed to Orbax, and
`checksum` tells whether the arrays that come back are those that were saved.
"""

import hashlib
import json
import os
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

NAME = "manifest.json"
_TEMPORARY = f"{NAME}.tmp"
_VERDICT_BYTES = 512


class CorruptCheckpointError(ValueError):
    """A saved step whose files are not those that were written; the message names one of them."""


class Inspector:
    """The checks of one workdir's checkpoints, each done once.

    Args:
      directory: `WORKDIR/checkpoints`.
    """

    def __init__(self, directory: epath.Path):
        self._directory = directory
        self._passed: dict[int, set[str]] = {}

    def check(self, step: int, *items: str) -> None:
        """Compares the sizes of all of a step's files and the digests of those of `items`.

        All processes call it, and all return or raise alike.

        Raises:
          CorruptCheckpointError: A file is missing, too many, or of other size or content.
          OSError: A file cannot be read, by this process or another one.
        """
        left = set(items) - self._passed.get(step, set())
        if step in self._passed and not left:
            return
        _raise_alike(self._directory / str(step), left)
        self._passed.setdefault(step, set()).update(left)

    def forget(self, step: int) -> None:
        """Makes the next check of `step` a whole one: its files are about to change."""
        self._passed.pop(step, None)


def write_manifest(folder: epath.Path) -> None:
    """Writes the manifest of a step whose items are complete; the main process calls it."""
    files = {
        name: {"size": size, "sha256": _digest(folder, name)}
        for name, size in sorted(_sizes(folder).items())
    }
    content = json.dumps({"files": files}, indent=1)
    if _in_bucket(folder):
        # An object appears when it is whole; a rename would copy it.
        (folder / NAME).write_text(content)
        return
    with open(folder / _TEMPORARY, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(folder / _TEMPORARY, folder / NAME)


def read_manifest(folder: epath.Path) -> dict[str, dict[str, Any]] | None:
    """The size and digest of each file of a saved step, None if it has no manifest.

    Raises:
      CorruptCheckpointError: The manifest cannot be understood.
    """
    try:
        with _open(folder, NAME) as file:
            content = file.read()
    except FileNotFoundError:
        return None
    try:
        files = json.loads(content)["files"]
        return {name: {"size": f["size"], "sha256": f["sha256"]} for name, f in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptCheckpointError(f"{NAME} is not a manifest") from error


def find_problem(folder: epath.Path, items: set[str], part: int = 0, parts: int = 1) -> str | None:
    """What is wrong with a saved step, in one line that names the file; None if nothing is.

    Args:
      folder: `WORKDIR/checkpoints/STEP`.
      items: Whose files are read and their digests compared.
      part, parts: Which share of those files, of how many.
    """
    expected = read_manifest(folder)
    if expected is None:
        return None
    problem = _wrong_size(expected, _sizes(folder))
    if problem:
        return problem
    names = sorted(name for name in expected if name.split("/")[0] in items)
    for name in names[part::parts]:
        if _digest(folder, name) != expected[name]["sha256"]:
            return f"{name} is changed: its digest differs from the one in {NAME}"
    return None


def checksum(tree: Any) -> int:
    """A number in 0 .. 2**32-1 of all bits of arrays of 32 bit values, wherever they live."""
    return int(jax.device_get(_checksum(tree)))


@jax.jit
def _checksum(tree: Any) -> jax.Array:
    total = jnp.uint32(0)
    for index, leaf in enumerate(jax.tree.leaves(tree)):
        bits = jax.lax.bitcast_convert_type(leaf, jnp.uint32)
        # Odd factors: no flipped bit is lost, and swapped arrays differ.
        total += jnp.sum(bits, dtype=jnp.uint32) * jnp.uint32(2 * index + 1)
    return total


def _wrong_size(expected: dict[str, dict[str, Any]], sizes: dict[str, int]) -> str | None:
    for name in sorted(expected.keys() | sizes.keys()):
        if name not in sizes:
            return f"{name} is missing: {expected[name]['size']} bytes expected"
        if name not in expected:
            return f"{name} is extra: {NAME} does not list it"
        if sizes[name] != expected[name]["size"]:
            return f"{name} has {sizes[name]} bytes, {expected[name]['size']} expected"
    return None


def _raise_alike(folder: epath.Path, items: set[str]) -> None:
    """Raises what is wrong in the share of any process, in all of them."""
    parts = jax.process_count()
    if parts == 1:
        problem = find_problem(folder, items)
        if problem:
            raise CorruptCheckpointError(problem)
        return
    try:
        problem = find_problem(folder, items, jax.process_index(), parts)
        verdict = f"C{problem}" if problem else ""
    except CorruptCheckpointError as error:
        verdict = f"C{error}"
    except Exception as error:  # Whatever storage raises: the other processes wait for a verdict.
        verdict = f"U{type(error).__name__}: {error}"
    # "U", a file that cannot be read, goes before "C": it may pass, and quarantines nothing.
    worst = max(_gather(verdict))
    if worst:
        raise (CorruptCheckpointError if worst[0] == "C" else OSError)(worst[1:])


def _gather(verdict: str) -> list[str]:
    """The verdicts of all processes."""
    padded = verdict.encode()[:_VERDICT_BYTES].ljust(_VERDICT_BYTES, b"\0")
    rows = multihost_utils.process_allgather(np.frombuffer(padded, np.uint8))
    return [np.asarray(row).tobytes().rstrip(b"\0").decode(errors="replace") for row in rows]


def _sizes(folder: epath.Path) -> dict[str, int]:
    """The size of each file of the items; Orbax writes its own marks beside them, and later."""
    listed = _list_bucket(folder) if _in_bucket(folder) else _list_disk(folder)
    return {name: size for name, size in listed.items() if "/" in name}


def _list_disk(folder: epath.Path) -> dict[str, int]:
    sizes = {}
    for parent, _, names in os.walk(folder, onerror=_raise):
        for path in (os.path.join(parent, name) for name in names):
            sizes[os.path.relpath(path, folder).replace(os.sep, "/")] = os.path.getsize(path)
    return sizes


def _raise(error: OSError) -> None:
    # `os.walk` would leave out what cannot be listed, which is not missing.
    raise error


def _list_bucket(folder: epath.Path) -> dict[str, int]:
    files, root = _bucket(folder)
    objects = files.find(root, detail=True).items()
    # Names that end in a slash stand for folders.
    return {n[len(root) :].strip("/"): f["size"] for n, f in objects if not n.endswith("/")}


def _digest(folder: epath.Path, name: str) -> str:
    with _open(folder, name) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open(folder: epath.Path, name: str) -> BinaryIO:
    if not _in_bucket(folder):
        return open(folder / name, "rb")
    files, root = _bucket(folder)
    return files.open(f"{root}/{name}", "rb")


def _in_bucket(folder: epath.Path) -> bool:
    return "://" in str(folder)


def _bucket(folder: epath.Path) -> tuple[Any, str]:
    import fsspec  # Comes with the package that reads buckets.

    # The usual client remembers lists of files, and does not see what TensorStore writes.
    return fsspec.core.url_to_fs(str(folder), use_listings_cache=False)
