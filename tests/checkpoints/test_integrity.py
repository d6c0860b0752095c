"""Manifests of saved steps, and the silence of reads that a failed restore leaves behind."""

import dataclasses
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from cluenet_jax.checkpoints import integrity, late_reads, manager
from cluenet_jax.checkpoints.integrity import CorruptCheckpointError
from cluenet_jax.checkpoints.manager import Checkpoints
from cluenet_jax.checkpoints.metadata import Metadata
from cluenet_jax.data import DatasetInfo
from cluenet_jax.errors import UserError
from tests.helpers.runs import ROOT

STEP = 2
INFO = DatasetInfo("none", ("a",), (0.5,) * 3, (0.5,) * 3)
METADATA = Metadata({}, INFO, "top1")


def at_step(step):
    return dataclasses.replace(METADATA, step=step)


def variables():
    # Noise cannot be compressed, so that every array has bytes of its own to read.
    noise = np.random.default_rng(0).normal(size=(50, 64, 64)).astype(np.float32)
    return {f"layer{i}": jnp.asarray(array) for i, array in enumerate(noise)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A workdir of two steps, each saved in the background."""
    workdir = tmp_path_factory.mktemp("saved")
    with Checkpoints(workdir, keep_latest=2) as checkpoints:
        for step in (1, STEP):
            checkpoints.save(at_step(step), variables=variables())
    return workdir


@pytest.fixture
def workdir(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run")


@pytest.fixture
def folder(workdir):
    """The directory of the newest step."""
    return workdir / "checkpoints" / str(STEP)


def largest(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def restore(workdir):
    with Checkpoints(workdir, read_only=True) as checkpoints:
        checkpoints.metadata(STEP)
        like = jax.tree.map(jnp.zeros_like, variables())
        return checkpoints.restore(STEP, variables=like)["variables"]


def test_every_step_is_committed_with_its_manifest(saved):
    for folder in (saved / "checkpoints").iterdir():
        items = [p for p in folder.rglob("*") if p.is_file() and p.parent != folder]
        names = {str(p.relative_to(folder)) for p in items}
        assert integrity.read_manifest(epath.Path(folder)).keys() == names
        assert {"metadata_json/metadata", "variables/_METADATA"} <= names
        assert integrity.find_problem(epath.Path(folder), {"metadata_json", "variables"}) is None
        assert not list(folder.glob("*.tmp"))


def test_a_manifest_outlives_a_kill_after_the_commit(tmp_path, monkeypatch):
    """It is written before the step gets its name, never after."""
    names = []
    write = manager.write_manifest
    monkeypatch.setattr(
        manager, "write_manifest", lambda folder: names.append(folder.name) or write(folder)
    )
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(METADATA, variables=variables())
    assert names == ["0.orbax-checkpoint-tmp"]


def truncated(folder):
    file = largest(folder)
    size = file.stat().st_size
    os.truncate(file, size // 2)
    return file, f" has {size // 2} bytes, {size} expected"


def flipped(folder):
    file = largest(folder)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    return file, " is changed: its digest differs"


def missing(folder):
    file = largest(folder)
    size = file.stat().st_size
    file.unlink()
    return file, f" is missing: {size} bytes expected"


def extra(folder):
    file = folder / "variables" / "d" / "ffff"
    file.write_text("more")
    return file, " is extra"


def of_metadata(folder):
    file = folder / "metadata_json" / "metadata"
    file.write_text(file.read_text().replace("none", "nope"))
    return file, " is changed: its digest differs"


def unreadable(folder):
    file = folder / integrity.NAME
    file.write_text('{"files": 3}')
    return file, " is not a manifest"


CHANGES = [truncated, flipped, missing, extra, of_metadata, unreadable]


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_what_is_wrong_is_named_before_orbax_reads(workdir, folder, monkeypatch, change):
    file, message = change(folder)

    def read(self, step, **kwargs):
        assert change is flipped and "variables" not in kwargs["args"].keys(), "handed to Orbax"
        return original(self, step, **kwargs)

    original = manager.ocp.CheckpointManager.restore
    monkeypatch.setattr(manager.ocp.CheckpointManager, "restore", read)
    with pytest.raises(CorruptCheckpointError) as caught:
        restore(workdir)
    assert str(caught.value).startswith(f"{file.relative_to(folder)}{message}")
    assert "\n" not in str(caught.value) and manager.is_corruption(caught.value)


def test_a_checkpoint_without_a_manifest_is_restored(workdir, folder):
    (folder / integrity.NAME).unlink()
    for name, array in restore(workdir).items():
        np.testing.assert_array_equal(array, variables()[name])
    flipped(folder)
    with pytest.raises(ValueError):  # By the checksum of the arrays, or their compression's.
        restore(workdir)


def test_files_are_read_once(saved, monkeypatch):
    names = []
    digest = integrity._digest
    monkeypatch.setattr(integrity, "_digest", lambda f, name: names.append(name) or digest(f, name))
    inspector = integrity.Inspector(epath.Path(saved / "checkpoints"))
    inspector.check(STEP, "metadata_json")
    assert {name.split("/")[0] for name in names} == {"metadata_json"}
    inspector.check(STEP, "metadata_json", "variables")
    inspector.check(STEP, "variables")
    expected = integrity.read_manifest(epath.Path(saved / "checkpoints" / str(STEP)))
    assert sorted(names) == sorted(expected)


def test_a_manifest_that_cannot_be_written_is_a_full_disk(tmp_path, monkeypatch):
    def full(folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(manager, "write_manifest", full)
    message = r"could not be written \(No space left.* the steps none"
    with pytest.raises(UserError, match=message), Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(METADATA, variables=variables())


@pytest.mark.parametrize(
    ("ours", "theirs", "error"),
    [
        ("", "", None),
        ("", "Cvariables/x is missing", CorruptCheckpointError),
        ("variables/y is extra", "", CorruptCheckpointError),
        ("variables/y is extra", "UTimeoutError: storage", OSError),
    ],
)
def test_all_processes_raise_alike(saved, monkeypatch, ours, theirs, error):
    """What any of them finds; storage that does not answer one of them is no corruption."""

    def gather(row):
        other = theirs.encode().ljust(len(row), b"\0")
        return np.stack([row, np.frombuffer(other, np.uint8)])

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(integrity.multihost_utils, "process_allgather", gather)
    monkeypatch.setattr(integrity, "find_problem", lambda *args: ours or None)
    inspector = integrity.Inspector(epath.Path(saved / "checkpoints"))
    if error is None:
        inspector.check(STEP, "metadata_json")
        return
    for _ in range(2):  # What failed is not taken for checked.
        with pytest.raises(error) as caught:
            inspector.check(STEP, "metadata_json")
        assert manager.is_corruption(caught.value) == (error is CorruptCheckpointError)


def test_each_process_reads_its_share(saved, monkeypatch):
    names = []
    monkeypatch.setattr(integrity, "_digest", lambda folder, name: names.append(name) or "?")
    folder = epath.Path(saved / "checkpoints" / str(STEP))
    sums = {n: {**f, "sha256": "?"} for n, f in integrity.read_manifest(folder).items()}
    monkeypatch.setattr(integrity, "read_manifest", lambda folder: sums)
    for part in range(3):
        before = len(names)
        assert integrity.find_problem(folder, {"metadata_json", "variables"}, part, 3) is None
        assert len(names) - before <= len(sums) // 3 + 1
    assert sorted(names) == sorted(sums)


RESTORE = """
import asyncio, sys
import numpy as np
from cluenet_jax.cli.main import quiet
quiet()
from tests.checkpoints.test_integrity import STEP, Checkpoints, variables
to_thread = asyncio.to_thread
async def slow(function, *args, **kwargs):
    if args and isinstance(args[0], np.ndarray):
        await asyncio.sleep(3)
    return await to_thread(function, *args, **kwargs)
# Orbax converts in a thread what it has read: these reads are under way when others fail.
asyncio.to_thread = slow
try:
    with Checkpoints(sys.argv[1]) as checkpoints:
        checkpoints.restore(STEP, variables=variables(), train=variables())
except Exception as error:
    print("failed:", type(error).__name__)
"""


def test_a_failed_restore_says_nothing_more(tmp_path):
    """Orbax's other reads fail after the first; Python would print a traceback for each."""
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(at_step(STEP), variables=variables(), train=variables())
    folder = tmp_path / "checkpoints" / str(STEP)
    (folder / integrity.NAME).unlink()
    truncated(folder / "variables")
    done = subprocess.run(
        [sys.executable, "-c", RESTORE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.startswith("failed: "), done
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def report(error, made_by=None):
    return types.SimpleNamespace(
        exc_type=type(error), exc_value=error, exc_traceback=error.__traceback__, object=made_by
    )


def test_reports_of_other_things_are_handed_on(monkeypatch):
    handed_on = []
    monkeypatch.setattr(sys, "unraisablehook", handed_on.append)
    with late_reads.late_reads_unreported():
        pass
    assert sys.unraisablehook == handed_on.append, "nothing stays after a restore that succeeds"
    with pytest.raises(OSError), late_reads.late_reads_unreported():
        raise OSError("cut short")
    try:
        raise RuntimeError("Event loop is closed")  # Not by a thread of TensorStore.
    except RuntimeError as error:
        other = report(error)
    sys.unraisablehook(other)
    assert handed_on == [other]
    code = compile("async def read(): pass", "/lib/orbax/checkpoint/serialization.py", "exec")
    exec(code, scope := {})
    coroutine = scope["read"]()
    sys.unraisablehook(report(ValueError("DATA_LOSS"), made_by=coroutine))
    coroutine.close()
    assert handed_on == [other]


def test_a_manifest_lists_sizes_and_digests(saved):
    content = json.loads((saved / "checkpoints" / str(STEP) / integrity.NAME).read_text())
    entry = content["files"]["metadata_json/metadata"]
    file = saved / "checkpoints" / str(STEP) / "metadata_json" / "metadata"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert entry == {"size": file.stat().st_size, "sha256": digest}
