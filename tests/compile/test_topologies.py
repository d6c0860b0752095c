"""Names of slices: what they are, and what is said of those that do not exist."""

import platform

import pytest

from cluenet_jax.compile import topologies
from cluenet_jax.compile.topologies import GENERATIONS, find_topology
from cluenet_jax.errors import UserError


@pytest.mark.parametrize(
    ("name", "same", "devices"),
    [
        ("v5e:4x4", "v5e:4x4", 16),
        ("v5e-16", "v5e:4x4", 16),
        ("v5litepod-8", "v5e:2x4", 8),
        ("v6e-8", "v6e:2x4", 8),
        ("v6e-1", "v6e:1x1", 1),
        ("V5E:2x2", "v5e:2x2", 4),
        # Google counts the cores of these, two a chip; JAX has one device a chip.
        ("v4-32", "v4:2x2x4", 16),
        ("v4-8", "v4:2x2x1", 4),
        ("v5p-16", "v5p:2x2x2", 8),
    ],
)
def test_slices_are_known_by_both_names(name, same, devices):
    topology = find_topology(name)
    assert (topology.name, topology.num_devices) == (same, devices)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v9:2x2", "no such slice. Generations: v4, v5e, v5p, v6e"),
        ("", "no such slice"),
        ("v5e", "no such slice"),
        ("v5e:0x2", "no such slice"),
        ("v4-12", "no such size. There are v4-8, v4-16, v4-32"),
        ("v6e-7", "no such size. There are v6e-1, v6e-4"),
        ("v4:2x2", "have 3 axes, such as v4:2x2x2"),
        ("v5e:2x2x2", "have 2 axes, such as v5e:2x4"),
        ("b200:8", "GPUs: h100, h200, and how many, such as h100:8"),
        ("h100:12", "hosts have 8 GPUs; give at most 8, or a multiple of it"),
        ("h100:0", "no such slice"),
        ("h100", "no such slice"),
    ],
)
def test_unknown_slices_are_refused_with_what_would_be_right(name, message):
    with pytest.raises(UserError, match=message):
        find_topology(name)


def test_memory_is_below_what_chips_have():
    chips = {"v4": 32, "v5e": 16, "v5p": 96, "v6e": 32}
    for name, generation in GENERATIONS.items():
        assert 0.95 * chips[name] <= generation.memory_bytes / 2**30 < chips[name]


def test_a_missing_libtpu_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr(topologies.platform, "system", lambda: "Linux")
    monkeypatch.setattr(topologies.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(topologies.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'cluenet-jax\[compile\]'"):
        find_topology("v5e:2x2").devices()


def test_another_machine_is_refused(monkeypatch):
    monkeypatch.setattr(topologies.platform, "machine", lambda: "arm64")
    with pytest.raises(UserError, match=f"{platform.system()} on arm64"):
        find_topology("v5e:2x2").devices()


@pytest.mark.parametrize(
    ("name", "hosts"), [("v4-32", 4), ("v5e-16", 4), ("v5p-8", 1), ("v6e-1", 1)]
)
def test_devices_are_chips(name, hosts):
    pytest.importorskip("libtpu", reason="libtpu is for Linux on x86-64")
    topology = find_topology(name)
    devices = topology.devices()
    assert len(devices) == topology.num_devices
    assert len({device.process_index for device in devices}) == hosts


def test_what_libtpu_refuses_is_a_user_error():
    pytest.importorskip("libtpu", reason="libtpu is for Linux on x86-64")
    with pytest.raises(UserError, match="libtpu refuses it"):
        find_topology("v5e:3x5").devices()
