"""Heads of pose estimation: equal to mmpose's in values, gradients and statistics."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cluenet_jax
from cluenet_jax import ops
from cluenet_jax.models.heads.heatmap import TransposedConv
from cluenet_jax.weights import from_torch, to_torch
from cluenet_jax.weights.torch import name_table
from tests.helpers import dense
from tests.helpers.golden import relative_error
from tests.helpers.models import random_variables, run
from tests.models.heads.recorded import VALUES, check_head

HEADS = ("heatmap_deconv", "heatmap_fpn", "heatmap_mta")
CHANNELS = (8, 10, 12, 14)
LEVELS = tuple(
    np.random.default_rng(i).standard_normal((2, 24 >> i, 16 >> i, width)).astype(np.float32)
    for i, width in enumerate(CHANNELS)
)


def loss_of(case, stride, heatmaps):
    """The recorded loss and what is compared with it."""
    size = heatmaps.shape[1:3]
    targets, _ = ops.heatmap_targets(case["keypoints"], case["visible"], size, stride, 2.0)
    places, scores = ops.decode_heatmaps(heatmaps)
    values = {"heatmaps": heatmaps, "decoded": places * stride, "decoded_scores": scores}
    return ops.heatmap_loss(heatmaps, targets, case["weights"]), values


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", ["pose_simple_even", "pose_simple_odd"])
def test_transposed_convolutions_equal_the_reference(name, train):
    case = dense.load_dense(name)
    head = cluenet_jax.create_head("heatmap_deconv", (96,), 7, width=16)
    check_head(case, head, functools.partial(loss_of, case, 4), train)


def test_the_fpn_equals_the_reference():
    case = dense.load_dense("pose_fpn_odd")
    head = cluenet_jax.create_head("heatmap_fpn", (32, 48, 64, 96), 7, width=16)
    check_head(case, head, functools.partial(loss_of, case, 4), train=False)


def test_the_pyramid_of_attention_equals_the_reference():
    """What is recorded comes before the last layer, which is the identity here."""
    case = dense.load_dense("pose_mta")
    head = cluenet_jax.create_head("heatmap_mta", (32, 48, 64, 96), 32, width=32)
    weights = {}
    for entry, spec in name_table(head):
        shape = entry.kind.to_torch(np.empty(spec.shape)).shape
        weights[entry.torch] = dense.tensor(entry.torch, shape, int(case["seed"]))
    last = {name: weights.pop(f"head.final_layer.{name}") for name in ("weight", "bias")}
    dense.check_sum(weights.values(), case["check/weights"])
    assert last["weight"].shape == (32, 32, 1, 1)
    weights["head.final_layer.weight"] = np.eye(32, dtype=np.float32)[:, :, None, None]
    weights["head.final_layer.bias"] = np.zeros(32, np.float32)
    levels = tuple(dense.normal(s, [int(case["seed"]), i]) for i, s in enumerate(case["levels"]))
    output = run(head, from_torch(weights, head), levels)
    assert relative_error(output, case["out0"]) < VALUES


def test_a_transposed_convolution_is_the_literal_sum():
    module = TransposedConv(3, jnp.float32)
    x = dense.normal((1, 3, 5, 2), 0)
    kernel = dense.normal((4, 4, 2, 3), 1)
    y = np.asarray(module.apply({"params": {"kernel": kernel}}, x))
    expected = np.zeros((1, 6 + 2, 10 + 2, 3), np.float32)
    for row, column, a, b in np.ndindex(3, 5, 4, 4):
        expected[:, 2 * row + a, 2 * column + b] += x[:, row, column] @ kernel[a, b]
    np.testing.assert_allclose(y, expected[:, 1:-1, 1:-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", HEADS)
def test_it_trains_at_any_size_and_type(name, dtype):
    head = cluenet_jax.create_head(name, CHANNELS, 5, width=8, dtype=dtype)
    variables = random_variables(head, LEVELS)

    def loss(params):
        output, _ = head.apply(
            {**variables, "params": params}, LEVELS, train=True, mutable=["batch_stats"]
        )
        chex.assert_shape(output, (2, 24, 16, 5))
        chex.assert_type(output, jnp.float32)
        return jnp.square(output).sum()

    grads = jax.jit(jax.grad(loss))(variables["params"])
    chex.assert_tree_all_finite(grads)
    # Of the FPN's outputs the first alone is read.
    for number in (2, 3, 4):
        grads.get("neck", {}).pop(f"output{number}", None)
    assert all(np.abs(grad).max() > 0 for grad in jax.tree.leaves(grads))


@pytest.mark.parametrize("name", HEADS)
def test_weights_come_back_bit_for_bit(name):
    head = cluenet_jax.create_head(name, CHANNELS, 5, width=8)
    variables = random_variables(head, LEVELS)
    named = to_torch(variables, head)
    assert {n.split(".")[0] for n in named} <= {"neck", "head"}
    chex.assert_trees_all_equal(from_torch(named, head), variables)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("heatmap_deconv", (4_230_021,)),
        ("heatmap_fpn", (2_607_104, 34_181)),
        ("heatmap_mta", (2_649_856, 34_181)),
    ],
)
def test_parameters_of_133_keypoints(name, parts):
    channels = cluenet_jax.create_backbone("clustr_b1").channels
    head = cluenet_jax.create_head(name, channels, 133)
    levels = tuple(jax.ShapeDtypeStruct((1, 1, 1, c), jnp.float32) for c in channels)
    shapes = jax.eval_shape(head.init, jax.random.key(0), levels)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == sum(parts)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("heatmap_deconv", dict(num_doublings=0), "num_doublings=0 must be at least 1"),
        ("heatmap_fpn", dict(width=0), "width=0 must be at least 1"),
        ("heatmap_mta", dict(width=30), "width=30 must be a multiple of num_heads=4"),
        ("heatmap_mta", dict(heads=2), "head heatmap_mta: .*'heads'"),
    ],
)
def test_wrong_options_say_what_would_be_right(name, options, message):
    with pytest.raises(ValueError, match=message):
        cluenet_jax.create_head(name, CHANNELS, 5, **options)
