"""ClusTR: equal to the reference number for number, and usable in every configuration."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cluenet_jax
from cluenet_jax.models.backbones import FAMILIES
from cluenet_jax.weights import from_torch, to_torch
from tests.helpers import recorded
from tests.helpers.backends import BACKENDS, selected
from tests.helpers.golden import load_case, relative_error
from tests.helpers.models import random_images, random_variables, run, tiny_clustr

PARAMETERS = {"clustr_b1": 11_682_417, "clustr_b2": 22_690_941, "clustr_b3": 40_246_210}


@pytest.fixture(params=BACKENDS)
def backend(request):
    """The forms of CPUs, and those of all other backends, run on the CPU."""
    with selected(request.param):
        yield


def recorded_model(case):
    model = cluenet_jax.create_model("clustr_nano", recorded.NUM_CLASSES, **recorded.CLUSTR)
    return model, from_torch(case["param"], model)


@pytest.mark.parametrize("name", ["clustr_nano_64", "clustr_nano_96x128"])
def test_outputs_equal_the_reference(name, backend):
    case = load_case(name, parameters_of="clustr_nano_64")
    model, variables = recorded_model(case)

    # Not `run`, which keeps what it compiled for another backend.
    @jax.jit
    def outputs(variables, images):
        features = model.apply(variables, images, method="features")
        return features, model.apply(variables, features.levels, method="decode")

    features, logits = outputs(variables, case["input"])
    assert relative_error(logits, case["logits"]) < 1e-4
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, case["labels"])
    assert relative_error(losses.mean(), case["loss"]) < 1e-4
    for stage in (3, 4):
        if f"stage{stage}/output" in case:
            expected = case[f"stage{stage}/output"]
            ours = features.levels[stage - 1].reshape(expected.shape)
            assert relative_error(ours, expected) < 1e-4


def test_every_gradient_equals_the_reference(backend):
    case = load_case("clustr_nano_64", parameters_of="clustr_nano_64")
    model, variables = recorded_model(case)

    def loss(variables):
        logits = model.apply(variables, case["input"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, case["labels"]).mean()

    ours = to_torch(jax.jit(jax.grad(loss))(variables), model)
    assert ours.keys() == case["grad"].keys()
    for name, theirs in case["grad"].items():
        if name.endswith("weight_layer.bias"):
            # A factor common to all weights cancels: what is recorded is rounding.
            assert np.abs(ours[name]).max() < 1e-6 and np.abs(theirs).max() < 1e-6
        else:
            assert relative_error(ours[name], theirs) < 1e-3, name


def test_parameters_are_counted_to_the_last_digit():
    published = [name for name in FAMILIES["clustr"].variants if name != "clustr_nano"]
    assert sorted(published) == sorted(PARAMETERS), "every published variant has its count here"
    for name, count in PARAMETERS.items():
        model = cluenet_jax.create_model(name)
        shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count, name


@pytest.mark.parametrize(
    "options",
    [{}, dict(cluster_scales=(1,)), dict(cluster_parts=(3, 2, 1, 1)), dict(dtype="bfloat16")],
    ids=str,
)
def test_every_option_trains(options):
    # Without dropped branches: two images would leave some without a gradient.
    model, x = tiny_clustr(drop_path=0.0, **options), random_images(2, 34, 30, 3)
    variables = random_variables(model, x)

    def loss(variables):
        logits = model.apply(variables, x, train=True, rngs={"dropout": jax.random.key(1)})
        chex.assert_shape(logits, (2, 3))
        chex.assert_type(logits, jnp.float32)
        return (logits**2).sum()

    grads = jax.jit(jax.grad(loss))(variables)
    chex.assert_tree_all_finite(grads)
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        assert name.endswith("weight/bias") or np.abs(grad).max() > 0, name


@pytest.mark.parametrize("size", [(32, 32), (17, 41), (3, 2), (1, 1)])
def test_any_input_size(size):
    model = tiny_clustr()
    variables = random_variables(model, random_images(1, 32, 32, 3))
    x = random_images(2, *size, 3)
    chex.assert_tree_all_finite(run(model, variables, x))
    height, width = -(-size[0] // 2), -(-size[1] // 2)
    index = run(model, variables, x, method="features").maps[0].clusters
    chex.assert_shape(index, (2, 2, height, width))
    coarsest = max(height * width // 64, 1)
    for scale, count in enumerate((coarsest, min(4 * coarsest, height * width))):
        assert set(np.unique(index[:, scale])) <= set(range(count))


@pytest.mark.parametrize("size", [(64, 64), (50, 38), (3, 2)])
def test_clusters_of_parts_stay_within_them(size):
    model = tiny_clustr(cluster_parts=(2, 1, 1, 1))
    variables = random_variables(model, random_images(1, 32, 32, 3))
    index = np.asarray(
        run(model, variables, random_images(2, *size, 3), method="features").maps[0].clusters
    )
    height, width = index.shape[2:]
    # Of odd sides the first part is longer.
    row, column = (height + 1) // 2, (width + 1) // 2
    corners = [
        index[:, :, rows, columns]
        for rows in (slice(row), slice(row, None))
        for columns in (slice(column), slice(column, None))
    ]
    for scale in range(2):
        members = [set(np.unique(corner[:, scale])) for corner in corners if corner.size]
        assert len(set.union(*members)) == sum(map(len, members)), "no cluster is in two parts"
        assert set.union(*members) <= set(range(sum(map(len, members))))


def test_a_backbone_gives_four_levels_and_says_how_they_fit_the_image():
    backbone = cluenet_jax.create_backbone(
        "clustr_nano", dims=(8, 8, 16, 16), num_heads=(1, 2, 2, 4)
    )
    x = random_images(2, 32, 48, 3)
    features = run(backbone, random_variables(backbone, x), x)
    assert backbone.channels == (8, 8, 16, 16) and backbone.strides == (2, 4, 8, 16)
    for level, stride, width in zip(
        features.levels, backbone.strides, backbone.channels, strict=True
    ):
        chex.assert_shape(level, (2, 32 // stride, 48 // stride, width))
    # Without clustering each token is a cluster of its own.
    own = np.arange(2 * 3).reshape(1, 1, 2, 3)
    np.testing.assert_array_equal(features.maps[3].clusters, own.repeat(2, 0))
    assert features.maps[2].gate is None and features.maps[2].weights is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(cluster_scales=(4, 1)), "ascending"),
        (dict(num_neighbors=0), "at least 1"),
        (dict(cluster_parts=(2, 2)), "cluster_parts=.* must be four numbers"),
        (dict(num_heads=(3, 2, 2, 4)), "must divide"),
        (dict(gate=False), "has no option 'gate'"),
    ],
)
def test_wrong_options_say_what_would_be_right(options, message):
    with pytest.raises(ValueError, match=message):
        tiny_clustr(**options)
