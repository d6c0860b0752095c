"""The selection: in one module, when a program is lowered or before, at no other backend's cost."""

import pathlib

import jax
import jax.numpy as jnp
import pytest

from cluenet_jax import ops

FOLDER = pathlib.Path(ops.__file__).parent


def test_forms_are_selected_in_one_module_only():
    users = [p.name for p in FOLDER.rglob("*.py") if "lax.platform_dependent(" in p.read_text()]
    assert users == ["platform.py"]


def lower(function, platform: str, *shapes: tuple[int, ...]) -> str:
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.jit(function).trace(*inputs).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize(("platform", "convolves"), [("cpu", False), ("cuda", True), ("tpu", True)])
def test_each_backend_gets_its_form_of_the_convolution(platform, convolves):
    def gradients(x, kernel):
        return jax.grad(lambda *a: ops.depthwise_conv3x3(*a).sum(), (0, 1))(x, kernel)

    program = lower(gradients, platform, (2, 8, 8, 4), (3, 3, 4))
    assert ("stablehlo.convolution" in program) == convolves


@pytest.mark.parametrize(("platform", "expected"), [("cpu", True), ("cuda", False), ("tpu", False)])
def test_top_k_is_left_to_cpus(platform, expected):
    """XLA does not divide the batch of a `top_k` among devices."""
    program = lower(lambda x: ops.density_peak_clustering(x, (4, 16)), platform, (2, 64, 8))
    assert ("top_k" in program) == expected


def test_a_known_platform_has_one_form_traced():
    """In half of the time; the program is the same."""
    x, kernel = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 4))
    forms = {
        platform: str(jax.make_jaxpr(ops.traced_for(ops.depthwise_conv3x3, platform))(x, kernel))
        for platform in (None, "cpu", "tpu")
    }
    assert "platform_index" in forms[None]
    assert not any("platform_index" in forms[platform] for platform in ("cpu", "tpu"))
    assert "conv_general_dilated" in forms["tpu"]
    assert "conv_general_dilated" not in forms["cpu"]


def test_the_platform_is_part_of_the_key_of_jaxs_caches():
    """A jitted function inside is traced for each platform, whichever came first."""
    inner = jax.jit(lambda x: ops.depthwise_conv3x3(x, jnp.ones((3, 3, 4))))
    x = jnp.ones((2, 8, 8, 4))
    forms = [
        str(jax.make_jaxpr(ops.traced_for(lambda x: inner(x), platform))(x))
        for platform in ("cpu", "tpu", "cpu", None)
    ]
    assert [form.count("conv_general_dilated") for form in forms[:3]] == [0, 1, 0]
    assert "platform_index" in forms[3]
