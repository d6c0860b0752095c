"""Compiled steps: what the compiler refuses, and what it says of it."""

import jax
import jax.numpy as jnp
import pytest

from cluenet_jax.compile.programs import compile_step, shortened
from cluenet_jax.compile.topologies import find_topology
from cluenet_jax.train import sharding


@pytest.mark.parametrize(
    ("message", "short"),
    [
        (
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory "
            "space hbm. Used 30.21G of 15.48G hbm. Exceeded hbm capacity by 14.73G.\n\nTotal",
            "Ran out of memory in memory space hbm. Used 30.21G of 15.48G hbm",
        ),
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory (256.00G) exceeds "
            "available HBM (30.75G).\nMore",
            "Ran out of memory on HBM, the total memory (256.00G) exceeds available HBM (30.75G).",
        ),
        ("RESOURCE_EXHAUSTED: otherwise", "RESOURCE_EXHAUSTED: otherwise"),
    ],
)
def test_a_refusal_is_one_sentence(message, short):
    assert shortened(message) == short


@pytest.mark.parametrize(("gibibytes", "fits"), [(1, True), (40, False)])
def test_the_compiler_says_what_cannot_fit(gibibytes, fits):
    pytest.importorskip("libtpu", reason="libtpu is for Linux on x86-64")
    topology = find_topology("v5e:2x2")
    mesh = sharding.make_mesh(topology.devices())
    everywhere, split = sharding.replicated(mesh), sharding.split_batch(mesh)
    weights = jax.ShapeDtypeStruct((gibibytes, 2**18, 1024), jnp.float32, sharding=everywhere)
    batch = {"image": jax.ShapeDtypeStruct((8, 2), jnp.float32, sharding=split)}
    step = jax.jit(lambda weights, batch: weights * batch["image"].sum(), donate_argnums=0)
    held = {"parameters": weights, "optimizer": (), "batch": batch}
    program = compile_step("train_step", step, (weights, batch), held)
    assert program.fits(topology.memory_bytes) == fits
    assert program.batch_size == 8
    if fits:
        assert program.memory.parameters == 2**30 and not program.refusal
        assert [collective.over for collective in program.collectives] == ["scalars"]
    else:
        assert "Ran out of memory" in program.refusal
