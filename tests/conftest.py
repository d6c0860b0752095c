"""All tests run on two CPU devices, so that sharding runs anywhere."""

import ctypes
import os
import pathlib
import sys

import pytest

from tests.helpers.compilation import xla_flags

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {xla_flags(devices=2)}"


@pytest.fixture(scope="module", autouse=True)
def cpu_forms(request):
    """As runs and tools trace operations, in a CPU's forms alone; all where forms are tested."""
    if {"ops", "compile"} & {*request.path.parts}:
        yield
        return
    from cluenet_jax.ops.platform import PLATFORM

    with PLATFORM("cpu"):
        yield


@pytest.fixture(scope="session")
def compiled_programs(tmp_path_factory):
    """The cache of compiled programs that processes share, those of all pytest workers."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled"


@pytest.fixture(scope="session")
def runner(tmp_path_factory, compiled_programs):
    from tests.helpers.runs import Runner  # Imports JAX, which must not come before the flags.

    return Runner(tmp_path_factory.mktemp("runs"), compiled_programs)


@pytest.fixture(scope="session")
def undisturbed(runner):
    """The workdir of a run that nothing happened to."""
    output = runner.run("undisturbed")
    assert "14 eval images" in output and "top1" in output
    assert output.count("Compiled the training step in") == 1
    assert output.count("Compiled the evaluation step in") == 1
    return runner.folder / "undisturbed"


@pytest.fixture(scope="module", autouse=True)
def bounded_memory():
    """Drops what a file compiled where that fills the memory, which two workers share."""
    yield
    if sys.platform != "linux":
        return
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    if pages * os.sysconf("SC_PAGE_SIZE") > 4 * 2**30:
        import jax

        jax.clear_caches()
        ctypes.CDLL(None).malloc_trim(0)


def pytest_collection_modifyitems(items):
    """Tests of whole runs come first: they take longest."""
    items.sort(key=lambda item: "runner" not in item.fixturenames)
