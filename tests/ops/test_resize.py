"""Resizing: equal to PyTorch's at all recorded sizes, with products and no gather."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from cluenet_jax import ops
from cluenet_jax.train.sharding import AXIS, make_mesh
from tests.helpers.dense import load_dense, normal
from tests.helpers.golden import relative_error
from tests.ops.test_partitioning import collectives

CASES = load_dense("resize_tensors")
RESIZE = {
    "bilinear": ops.resize_bilinear,
    "upsample2": ops.resize_bilinear,
    "nearest": ops.resize_nearest,
    "nearest2": ops.resize_nearest,
}
SIZES = [(5, 7), (18, 26), (9, 13), (2, 3), (1, 1), (20, 5)]


def recorded(*kinds):
    return [name for name in CASES if name.split("/")[0] in kinds]


def recorded_input(name):
    numbers = CASES[f"input/{name}"].tolist()
    return normal(numbers[:4], numbers[4:])


@pytest.mark.parametrize("name", recorded("bilinear", "upsample2"))
def test_bilinear_resizing_is_that_of_pytorch(name):
    expected = CASES[name]
    ours = ops.resize_bilinear(recorded_input(name), expected.shape[1:3])
    assert relative_error(ours, expected) < 1e-6


@pytest.mark.parametrize("name", recorded("nearest", "nearest2"))
def test_nearest_resizing_takes_the_pixels_that_pytorch_takes(name):
    expected = CASES[name]
    ours = ops.resize_nearest(recorded_input(name), expected.shape[1:3])
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("name", recorded("adaptive_average"))
def test_pooling_is_that_of_pytorch(name, backend):
    expected = CASES[name]
    ours = ops.adaptive_avg_pool(recorded_input(name), expected.shape[1:3])
    assert relative_error(ours, expected) < 1e-6


@pytest.mark.parametrize("resize", [ops.resize_bilinear, ops.resize_nearest])
@pytest.mark.parametrize("size", SIZES)
def test_gradients_are_those_of_a_linear_map(resize, size):
    x, y = normal((2, 5, 7, 3), 0), normal((2, *size, 3), 1)
    resized, transpose = jax.vjp(lambda x: resize(x, size), x)
    chex.assert_shape(resized, (2, *size, 3))
    # <A x, y> = <x, A^T y>, and constants stay constants.
    np.testing.assert_allclose(jnp.vdot(resized, y), jnp.vdot(x, transpose(y)[0]), rtol=1e-3)
    np.testing.assert_allclose(resize(jnp.full(x.shape, 3.0), size), 3.0, rtol=1e-6)


@pytest.mark.parametrize("resize", [ops.resize_bilinear, ops.resize_nearest])
def test_the_type_stays(resize):
    x = normal((1, 5, 7, 2), 0)
    for size in SIZES:
        short = resize(jnp.asarray(x, jnp.bfloat16), size)
        chex.assert_type(short, jnp.bfloat16)
        np.testing.assert_allclose(short.astype(jnp.float32), resize(x, size), atol=0.03)


@pytest.mark.parametrize("resize", [ops.resize_bilinear, ops.resize_nearest])
@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_gathered_and_images_stay_on_their_device(resize, size):
    sharding = NamedSharding(make_mesh(), PartitionSpec(AXIS))
    x = jax.ShapeDtypeStruct((4, 9, 13, 6), jnp.float32, sharding=sharding)
    grad = jax.ShapeDtypeStruct((4, *size, 6), jnp.float32, sharding=sharding)

    def both(x, grad):
        resized, transpose = jax.vjp(functools.partial(resize, size=size), x)
        return resized, transpose(grad)

    program = jax.jit(both).lower(x, grad).compile().as_text()
    assert not collectives(program)
    assert not any(f" {kind}(" in program for kind in ("gather", "scatter"))
