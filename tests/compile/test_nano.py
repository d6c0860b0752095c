"""The steps of the nano models as TPUs would run them: no activation crosses devices, no scatter.

Compiled with the least effort, which changes no operation that is looked for here.
"""

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import pytest

from cluenet_jax import ops
from cluenet_jax.compile.costs import (
    PARAMETERS,
    RESULTS,
    SCALARS,
    UNNAMED,
    Collective,
    collectives,
    counted,
)
from cluenet_jax.compile.hlo import parse_hlo
from cluenet_jax.compile.programs import (
    CompiledProgram,
    compile_eval_step,
    compile_train_step,
    programs_for,
)
from cluenet_jax.compile.topologies import find_topology
from cluenet_jax.config import default_config
from cluenet_jax.models.heads import rpn
from cluenet_jax.ops import segment
from cluenet_jax.ops.tpu import segment as tpu_segment
from cluenet_jax.train import sharding
from cluenet_jax.train.programs import with_sharding
from tests.helpers import pose
from tests.helpers.compilation import least_effort_compiled
from tests.helpers.detection import small_config
from tests.helpers.linear import linear_trainer


@pytest.fixture(autouse=True)
def least_effort():
    with least_effort_compiled():
        yield


@pytest.fixture(scope="module")
def compiled():
    """From a backbone and settings to its optimized training step for four chips."""
    pytest.importorskip("libtpu", reason="libtpu is for Linux on x86-64")
    topology = find_topology("v5e:2x2")
    devices = topology.devices()

    def compile_step(backbone: str, step=compile_train_step, **settings) -> CompiledProgram:
        config = default_config()
        config.model.backbone, config.model.dtype = backbone, "bfloat16"
        config.data.image_size, config.augment.crop_padding = 32, 0
        config.optim.batch_size = 32
        config.update_from_flattened_dict(settings)
        return step(programs_for(config, topology, devices))

    return compile_step


def activations(listed: Iterable[Collective]) -> list[str]:
    allowed = {PARAMETERS, SCALARS}
    return [f"{c.opcode} {c.arrays} {c.origin}" for c in listed if c.over not in allowed]


@pytest.mark.parametrize(
    "backbone", ["cluenet_nano", pytest.param("clustr_nano", marks=pytest.mark.chaos)]
)
def test_devices_exchange_gradients_and_nothing_is_scattered(compiled, backbone):
    program = compiled(backbone)
    assert not activations(program.collectives)
    assert any(collective.over == PARAMETERS for collective in program.collectives)
    assert program.counts == {"scatters": 0, "gathers": 0, "sorts": 0, "loops": 0}


@pytest.mark.chaos
@pytest.mark.parametrize("step", [compile_train_step, compile_eval_step])
def test_sharded_parameters_are_gathered_and_nothing_else(step, compiled):
    small = {f"model.cluenet.{key}": value for key, value in tiny_sizes().items()}
    settings = {**small, "train.shard_params": True, "eval.batch_size": 32}
    listed = compiled("cluenet_nano", step, **settings).collectives
    # Results of an evaluation are wanted whole.
    assert {c.over for c in listed} <= {PARAMETERS, SCALARS, RESULTS, UNNAMED}
    assert all(c.bytes < 2**10 for c in listed if c.over in (RESULTS, UNNAMED))
    assert any("gather" in c.opcode for c in listed if c.over == PARAMETERS)


def test_the_layers_of_proposals_see_all_levels_at_once():
    """Level by level, devices would exchange each level's gradients, of the biases cell by cell."""
    pytest.importorskip("libtpu", reason="libtpu is for Linux on x86-64")
    mesh = sharding.make_mesh(find_topology("v5e:2x2").devices())
    head = rpn.RPNHead(8, jnp.bfloat16)
    levels = [jax.ShapeDtypeStruct((4, side, side, 8), jnp.float32) for side in (16, 8, 4)]
    params = jax.eval_shape(head.init, jax.random.key(0), levels)
    count = 3 * sum(level.shape[1] * level.shape[2] for level in levels)
    index = jax.ShapeDtypeStruct((4, 6), jnp.int32)
    truths = jax.ShapeDtypeStruct((4, 2, 4), jnp.float32)
    matched = jax.ShapeDtypeStruct((4, count), jnp.int32)
    used = jax.ShapeDtypeStruct((4, 6), bool)
    batch = (levels, truths, matched, ops.Samples(index, used, used))
    anchors = jnp.zeros((count, 4))

    def loss(params, batch):
        levels, truths, matched, samples = batch
        outputs = head.apply(params, levels)
        return sum(rpn.rpn_losses(outputs, anchors, truths, matched, samples).values())

    inputs = (
        with_sharding(params, sharding.replicated(mesh)),
        with_sharding(batch, sharding.split_batch(mesh)),
    )
    program = jax.jit(jax.grad(loss)).trace(*inputs).lower(lowering_platforms=("tpu",)).compile()
    shapes = [leaf.shape for leaf in jax.tree.leaves(params)]
    listed = collectives(parse_hlo(program.as_text()), shapes, ())
    assert not activations(listed)
    assert sum(len(c.arrays) for c in listed if c.over == PARAMETERS) == len(shapes)


@pytest.mark.chaos
@pytest.mark.parametrize("step", [compile_train_step, compile_eval_step])
def test_a_detector_exchanges_gradients_or_results_and_nothing_else(step):
    pytest.importorskip("libtpu", reason="libtpu is for Linux on x86-64")
    topology = find_topology("v5e:2x2")
    settings = {"optim.batch_size": 4, "eval.batch_size": 4, "model.dtype": "bfloat16"}
    program = step(programs_for(small_config(**settings), topology, topology.devices()))
    assert {c.over for c in program.collectives} <= {PARAMETERS, SCALARS, RESULTS, UNNAMED}
    if step is compile_train_step:
        assert not activations(program.collectives)


@pytest.mark.parametrize(
    "step", [pytest.param(compile_train_step, marks=pytest.mark.chaos), compile_eval_step]
)
def test_a_pose_model_exchanges_gradients_or_results_and_scatters_nothing(step):
    pytest.importorskip("libtpu", reason="libtpu is for Linux on x86-64")
    topology = find_topology("v5e:2x2")
    settings = {"optim.batch_size": 4, "eval.batch_size": 4, "model.dtype": "bfloat16"}
    programs = programs_for(pose.small_config(**settings), topology, topology.devices())
    program = step(programs)
    assert {c.over for c in program.collectives} <= {PARAMETERS, SCALARS, RESULTS, UNNAMED}
    if step is compile_train_step:
        assert not activations(program.collectives)
    assert program.counts == {"scatters": 0, "gathers": 0, "sorts": 0, "loops": 0}


def tiny_sizes() -> dict[str, tuple[int, ...] | int]:
    return dict(dims=(8, 8, 8, 8), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), head_dim=8)


@pytest.mark.parametrize(
    ("form", "clean"),
    [
        (segment.segment_sum, False),
        (functools.partial(tpu_segment.segment_sum, max_entries=10**6), True),
    ],
    ids=["plain", "tpu"],
)
def test_a_sum_by_index_would_be_seen(form, clean):
    pytest.importorskip("libtpu", reason="libtpu is for Linux on x86-64")
    device = jax.sharding.SingleDeviceSharding(find_topology("v5e:2x2").devices()[0])
    values = jax.ShapeDtypeStruct((4, 256, 32), jnp.float32, sharding=device)
    index = jax.ShapeDtypeStruct((4, 256), jnp.int32, sharding=device)
    traced = jax.jit(lambda values, index: form(values, index, 16)).trace(values, index)
    program = traced.lower(lowering_platforms=("tpu",)).compile().as_text()
    assert (sum(map(len, counted(parse_hlo(program)).values())) == 0) == clean


def test_gradients_are_reduced_once_for_all_parts_of_a_batch():
    pytest.importorskip("libtpu", reason="libtpu is for Linux on x86-64")
    config = default_config()
    config.optim.grad_accum_steps = 2
    mesh = sharding.make_mesh(find_topology("v5e:2x2").devices())
    step, state, batch = linear_trainer(config)
    replicated, split = sharding.replicated(mesh), sharding.split_batch(mesh)
    inputs = with_sharding(state, replicated), with_sharding(batch, split)
    program = step.trace(*inputs).lower(lowering_platforms=("tpu",)).compile().as_text()
    module = parse_hlo(program)
    shapes = [leaf.shape for leaf in jax.tree.leaves(state.params)]
    reduced = [c for c in collectives(module, shapes, ()) if c.over == PARAMETERS]
    assert sum(len(c.arrays) for c in reduced) == len(shapes)
    (loop,) = (i for i in module.instructions() if i.opcode == "while")
    inside = [i for name in loop.calls for i in module.computations[name]]
    assert not any("all-reduce" in i.opcode and i.arrays[0].shape for i in inside)
