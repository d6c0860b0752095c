"""What devices tell each other in data-parallel training: gradients and scalars, nothing else."""

import functools
import re

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cluenet_jax.ops import segment
from cluenet_jax.ops.cpu import segment as cpu_segment
from cluenet_jax.ops.tpu import segment as tpu_segment
from cluenet_jax.train.sharding import AXIS, make_mesh
from tests.helpers.backends import selected
from tests.helpers.models import tiny_cluenet, tiny_clustr, tiny_fec

_COLLECTIVE = re.compile(
    r"= (.*?) (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    r"|collective-broadcast)(?:-start)?\("
)
# Sizes that no parameter has, and odd grids in the deeper stages.
_IMAGES, _HEIGHT, _WIDTH = 6, 38, 46
_CASES = {"cluenet": tiny_cluenet, "clustr": tiny_clustr, "fec": tiny_fec}


@pytest.fixture(autouse=True)
def strict_types():
    """Flax does not pass the strict promotion of types of the other tests of ops."""


def placed(mesh: Mesh, shape: tuple[int, ...], dtype=jnp.float32, *axes: str):
    """An array's description, on all devices or with its axes split over them."""
    sharding = NamedSharding(mesh, PartitionSpec(*axes))
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def compiled_gradient(model) -> tuple[str, list[tuple[int, ...]]]:
    """The program of loss and gradients, the batch split over the devices; parameters' shapes."""
    mesh = make_mesh()
    images = (_IMAGES, _HEIGHT, _WIDTH, 3)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *images[1:])))

    def loss(variables, images, seed):
        rngs = {"dropout": jax.random.key(seed)}
        return jnp.mean(model.apply(variables, images, train=True, rngs=rngs) ** 2)

    inputs = (
        jax.tree.map(lambda leaf: placed(mesh, leaf.shape, leaf.dtype), variables),
        placed(mesh, images, jnp.float32, AXIS),
        placed(mesh, (), jnp.int32),
    )
    with selected("default"):
        program = jax.jit(jax.value_and_grad(loss)).lower(*inputs).compile().as_text()
    return program, [significant(leaf.shape) for leaf in jax.tree.leaves(variables)]


def significant(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without its order and its axes of length 1, which XLA may change."""
    return tuple(sorted(length for length in shape if length > 1))


def collectives(program: str) -> list[tuple[str, tuple[int, ...]]]:
    """The kind and the shape of everything that devices exchange."""
    exchanged = []
    for results, kind in _COLLECTIVE.findall(program):
        for lengths in re.findall(r"\w+\[([\d,]*)\]", results):
            exchanged.append((kind, significant(tuple(int(n) for n in lengths.split(",") if n))))
    return exchanged


@pytest.mark.parametrize("family", _CASES)
def test_devices_exchange_gradients_and_scalars_only(family):
    program, parameters = compiled_gradient(_CASES[family]())
    exchanged = collectives(program)
    assert exchanged, "gradients are summed over devices"
    activations = [e for e in exchanged if e[0] != "all-reduce" or e[1] not in {*parameters, ()}]
    assert not activations
    assert len([shape for _, shape in exchanged if shape]) <= len(parameters), "summed once each"


@pytest.mark.parametrize(
    ("form", "crosses"),
    [
        (segment.segment_sum, False),
        (functools.partial(tpu_segment.segment_sum, max_entries=10**6), False),
        # A single index of images and clusters: the check above would see it.
        (cpu_segment.segment_sum, True),
    ],
    ids=["plain", "tpu", "flat"],
)
def test_sums_of_clusters_stay_on_their_device(form, crosses):
    mesh = make_mesh()
    values = placed(mesh, (6, 50, 4), jnp.float32, AXIS)
    index = placed(mesh, (6, 50), jnp.int32, AXIS)

    def loss(values, index):
        return jnp.mean(form(values, index, 9) ** 2)

    program = jax.jit(jax.value_and_grad(loss)).lower(values, index).compile().as_text()
    assert any(shape for _, shape in collectives(program)) == crosses
