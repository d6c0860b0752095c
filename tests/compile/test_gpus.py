"""GPUs by name, and a program compiled for them where JAX's plugin for CUDA is installed."""

import jax
import jax.numpy as jnp
import pytest

from cluenet_jax.compile import gpus
from cluenet_jax.compile.gpus import KINDS, Gpus
from cluenet_jax.compile.programs import compile_step
from cluenet_jax.compile.topologies import find_topology
from cluenet_jax.errors import UserError
from cluenet_jax.train import sharding


@pytest.mark.parametrize(
    ("name", "same", "devices"),
    [("h100:8", "h100:8", 8), ("H200:1", "h200:1", 1), ("h100-16", "h100:16", 16)],
)
def test_gpus_are_known_by_kind_and_number(name, same, devices):
    topology = find_topology(name)
    assert isinstance(topology, Gpus)
    assert (topology.name, topology.num_devices) == (same, devices)


def test_memory_is_what_jax_takes_of_it():
    marketed = {"h100": 80, "h200": 141}
    for name, kind in KINDS.items():
        # A gigabyte on the box is 2**30 bytes of one and 10**9 of the other.
        assert marketed[name] * 1e9 < kind.memory_bytes <= marketed[name] * 2**30
        assert find_topology(f"{name}:1").memory_bytes == int(0.75 * kind.memory_bytes)


def test_a_missing_plugin_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr(gpus.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'cluenet-jax\[compile_gpu\]'"):
        find_topology("h100:8").devices()


def test_a_program_is_compiled_for_two_hosts():
    pytest.importorskip("jax_cuda13_plugin", reason="gigabytes, and not needed on a CPU")
    topology = find_topology("h100:16")
    devices = topology.devices()
    assert len({device.process_index for device in devices}) == 2
    mesh = sharding.make_mesh(devices)
    everywhere, split = sharding.replicated(mesh), sharding.split_batch(mesh)
    weights = jax.ShapeDtypeStruct((2**8, 2**10), jnp.float32, sharding=everywhere)
    batch = {"image": jax.ShapeDtypeStruct((32, 2**8), jnp.float32, sharding=split)}
    step = jax.jit(jax.grad(lambda weights, batch: jnp.sum((batch["image"] @ weights) ** 2)))
    held = {"parameters": weights, "optimizer": weights, "batch": batch}
    program = compile_step("train_step", step, (weights, batch), held)
    assert program.fits(topology.memory_bytes) and program.memory.parameters == 2**20
    assert [collective.over for collective in program.collectives] == ["parameters and gradients"]
    assert program.cycles is None
