"""The neck: equal to mmdetection's, of any sizes, with either upsampling."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cluenet_jax import ops
from cluenet_jax.models.heads import fpn
from cluenet_jax.models.torch_names import below
from tests.helpers import dense
from tests.helpers.models import random_variables
from tests.models.heads.recorded import GRADIENTS, VALUES, assert_close

LEVELS = tuple(dense.normal((2, *size, 8), i) for i, size in enumerate([(9, 14), (5, 7), (3, 4)]))


def test_outputs_and_gradients_equal_the_reference():
    case = dense.load_dense("fpn_maskrcnn_odd")
    neck, levels = fpn.FPN(24, num_extra_levels=1), dense.levels_of(case)
    entries = [*below(fpn.torch_names(4), "neck.", "params")]
    tensors, seed = {}, int(case["seed"])
    shapes = jax.eval_shape(neck.init, jax.random.key(0), levels)
    variables = jax.tree.map(jnp.zeros_like, shapes)

    def leaf(tree, entry):
        _, layer, name = entry.flax.split("/")
        return tree["params"][layer], name

    for entry in entries:
        layer, name = leaf(variables, entry)
        shape = entry.kind.to_torch(np.empty(layer[name].shape)).shape
        tensors[entry.torch] = dense.tensor(entry.torch, shape, seed)
        layer[name] = jnp.asarray(entry.kind.to_flax(tensors[entry.torch]))
    dense.check_sum(tensors.values(), case["check/weights"])

    def loss(variables, levels):
        outputs = neck.apply(variables, levels)
        return sum(jnp.square(output).mean() for output in outputs), outputs

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (total, outputs), (grads, level_grads) = run(variables, levels)
    ours = {"loss": total, **{f"p{i}": output for i, output in enumerate(outputs, 2)}}
    assert_close(ours, {name: case[name] for name in ours}, VALUES)
    named = {}
    for entry in entries:
        layer, name = leaf(grads, entry)
        named[entry.torch] = entry.kind.to_torch(np.asarray(layer[name]))
    assert named.keys() == dense.part(case, "grad/").keys()
    assert_close(named, dense.part(case, "grad/"), GRADIENTS)
    inputs = {f"level{i}": grad for i, grad in enumerate(level_grads)}
    assert_close(inputs, dense.part(case, "grad_input/"), GRADIENTS)


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear"])
def test_coarse_levels_reach_the_fine_ones(upsampling):
    neck = fpn.FPN(6, upsampling, num_extra_levels=2)
    variables = random_variables(neck, LEVELS)
    outputs = neck.apply(variables, LEVELS)
    sizes = [(9, 14), (5, 7), (3, 4), (2, 2), (1, 1)]
    chex.assert_shape(list(outputs), [(2, *size, 6) for size in sizes])
    np.testing.assert_array_equal(outputs[3], outputs[2][:, ::2, ::2])
    resize = {"nearest": ops.resize_nearest, "bilinear": ops.resize_bilinear}[upsampling]
    change = dense.normal((2, 3, 4, 8), 9)
    moved = neck.apply(variables, (*LEVELS[:2], LEVELS[2] + change))[0] - outputs[0]
    params = variables["params"]
    expected = resize(resize(change @ params["lateral3"]["kernel"], (5, 7)), (9, 14))
    without_bias = {"output1": {"kernel": params["output1"]["kernel"], "bias": jnp.zeros(6)}}
    zeros = {f"lateral{i}": jax.tree.map(jnp.zeros_like, params[f"lateral{i}"]) for i in (1, 2, 3)}
    # The first output's convolution alone, on a level that its lateral passes through.
    zeros["lateral1"]["kernel"] = jnp.eye(6)
    single = fpn.FPN(6).apply(
        {"params": {"lateral1": zeros["lateral1"], **without_bias}}, (expected,)
    )
    np.testing.assert_allclose(moved, single[0], atol=1e-4)


def test_activations_are_of_the_type_and_weights_are_drawn_as_published():
    neck = fpn.FPN(32, dtype=jnp.bfloat16)
    outputs, variables = neck.init_with_output(jax.random.key(0), LEVELS)
    chex.assert_type(list(outputs), jnp.bfloat16)
    for name, layer in variables["params"].items():
        fan_in = np.prod(layer["kernel"].shape[:-1])
        fan_out = layer["kernel"].size // (8 if name.startswith("lateral") else 32)
        bound = np.sqrt(6 / (fan_in + fan_out))
        assert 0.9 * bound < np.abs(layer["kernel"]).max() <= bound
        chex.assert_type(layer["kernel"], jnp.float32)
        np.testing.assert_array_equal(layer["bias"], 0)


def test_an_unknown_upsampling_says_which_there_are():
    with pytest.raises(ValueError, match="upsampling='cubic' is not one of nearest, bilinear"):
        fpn.FPN(8, "cubic")
