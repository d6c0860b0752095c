"""CLUENet: equal to the reference number for number, and usable in every configuration."""

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
from tests.helpers.models import random_images, random_variables, run, tiny_cluenet

PARAMETERS = {
    "cluenet_mini_cifar": 3_016_788,
    "cluenet_micro": 3_017_908,
    "cluenet_tiny": 5_680_430,
    "cluenet_small": 15_048_840,
    "cluenet_base": 30_198_452,
}


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request):
    """The forms of CPUs, and those of all other backends, run on the CPU."""
    return request.param


@pytest.fixture(scope="module", params=recorded.CLUENET_CASES)
def golden(request, backend):
    case = load_case(request.param, parameters_of="cluenet_nano_32")
    options = {**recorded.CLUENET, **recorded.CLUENET_CASES[request.param]}
    model = cluenet_jax.create_model("cluenet_nano", recorded.NUM_CLASSES, **options)
    variables = from_torch({k: case["param"][k] for k in case["grad"]}, model)

    def loss_fn(variables):
        features = model.apply(variables, case["input"], method="features")
        logits = model.apply(variables, features.levels, method="decode")
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, case["labels"]).mean()
        return loss, (logits, features.maps)

    with selected(backend):
        run_all = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
        (loss, (logits, maps)), grads = run_all(variables)
    return case, dict(loss=loss, logits=logits, maps=maps, grad=to_torch(grads, model))


def test_logits_equal_the_reference(golden):
    case, ours = golden
    assert relative_error(ours["logits"], case["logits"]) < 1e-5
    assert relative_error(ours["loss"], case["loss"]) < 1e-5


def test_every_assignment_equals_the_reference(golden):
    case, ours = golden
    names = [name for name in case if name.endswith("assignment")]
    assert len(names) == 7  # four stages, three poolings
    for name in names:
        part, number = name.split("/")[0][:-1], int(name.split("/")[0][-1])
        stage_maps = ours["maps"][number - 1]
        index = stage_maps.clusters if part == "stage" else stage_maps.parents
        np.testing.assert_array_equal(np.ravel(index), np.ravel(case[name]), name)


def test_every_gradient_equals_the_reference(golden):
    case, ours = golden
    assert ours["grad"].keys() == case["grad"].keys()
    errors = {k: relative_error(ours["grad"][k], g) for k, g in case["grad"].items()}
    assert max(errors.values()) < 1e-4, max(errors, key=errors.get)


def test_parameters_are_counted_to_the_last_digit():
    published = [name for name in FAMILIES["cluenet"].variants if name != "cluenet_nano"]
    assert sorted(published) == sorted(PARAMETERS), "every published variant has its count here"
    for name, count in PARAMETERS.items():
        model = cluenet_jax.create_model(name)
        shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count, name


@pytest.mark.parametrize(
    "options",
    [
        dict(pooling="fec"),
        dict(pooling="shared"),
        dict(gate=False),
        dict(share_assignment=False),
        dict(learn_temperature=False),
        dict(dispatch="soft"),
        dict(center_grid=(2, 3), num_classes=7),
        dict(dtype="bfloat16"),
    ],
    ids=str,
)
def test_every_option_trains(options):
    """Logits have the right form, and every parameter gets a gradient unless it cannot."""
    # Without dropped branches: two images would leave some without a gradient.
    model = tiny_cluenet(drop_path=0.0, **options)
    x = random_images(2, 18, 22, 3)
    variables = random_variables(model, x)

    def loss(variables):
        logits = run(model, variables, x, train=True, rngs={"dropout": jax.random.key(1)})
        chex.assert_shape(logits, (2, options.get("num_classes", 3)))
        chex.assert_type(logits, jnp.float32)
        return (logits**2).sum()

    grads = jax.jit(jax.grad(loss))(variables)
    chex.assert_tree_all_finite(grads)
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        # The guide of FEC's pooling only chooses; softmaxes do not feel a shift of the keys.
        cannot = "/guide/" in name or (
            name.endswith("key/bias") and options.get("dispatch") == "soft"
        )
        assert cannot or np.abs(grad).max() > 0, name
        assert not ("/guide/" in name and np.abs(grad).max() > 0), name


@pytest.mark.parametrize("size", [(32, 32), (15, 15), (9, 14), (2, 2), (1, 5)])
def test_any_input_size(size):
    model = tiny_cluenet(patch=(3, 1, 1))
    x = random_images(2, *size, 3)
    variables = random_variables(model, random_images(1, 8, 8, 3))
    features = run(model, variables, x, method="features")
    logits = run(model, variables, x)
    chex.assert_shape(logits, (2, 3))
    chex.assert_tree_all_finite(logits)
    height, width = size
    for stage_maps in features.maps:
        chex.assert_shape(stage_maps.clusters, (2, None, height, width))
        height, width = -(-height // 2), -(-width // 2)


def test_maps_partition_the_grid():
    model = tiny_cluenet()
    x = random_images(2, 20, 28, 3)
    features = run(model, random_variables(model, x), x, method="features")
    chex.assert_shape(features.maps[0].clusters, (2, 1, 10, 14))
    chex.assert_shape(features.maps[1].gate, (2, 2, 1, 4, 4))
    chex.assert_shape(features.maps[0].parents, (2, 10, 14))
    assert features.maps[3].parents is None
    chex.assert_shape(features.pixel_owners, (2, 20, 28))
    for stage_maps in features.maps:
        assert stage_maps.clusters.min() >= 0 and stage_maps.clusters.max() < 16
        assert 0 < stage_maps.weights.min() <= stage_maps.weights.max() < 1


def test_the_levels_of_a_backbone_are_normalized():
    backbone = cluenet_jax.create_backbone(
        "cluenet_nano", dims=(8, 8, 16, 16), num_heads=(1, 1, 2, 2), head_dim=8
    )
    x = random_images(2, 32, 48, 3)
    variables = random_variables(backbone, x)
    levels = run(backbone, variables, x).levels
    assert backbone.channels == (8, 8, 16, 16) and backbone.strides == (2, 4, 8, 16)
    for i, (level, stride) in enumerate(zip(levels, backbone.strides, strict=True)):
        chex.assert_shape(level, (2, 32 // stride, 48 // stride, backbone.channels[i]))
        norm = variables["params"][f"stage{i + 1}_norm"]
        standard = (level - norm["bias"]) / norm["scale"]
        np.testing.assert_allclose(standard.mean(-1), 0, atol=1e-4)
        np.testing.assert_allclose(standard.std(-1), 1, rtol=1e-2)


def test_the_temperature_has_a_lower_bound():
    model = tiny_cluenet()
    x = random_images(1, 16, 16, 3)
    variables = random_variables(model, x)
    attention = variables["params"]["backbone"]["stage1_block0"]["attention"]
    for value in (-50.0, -500.0):
        attention["alpha"] = jnp.float32(value)
        chex.assert_tree_all_finite(run(model, variables, x))
    grad = jax.jit(jax.grad(lambda v: model.apply(v, x).sum()))(variables)
    assert grad["params"]["backbone"]["stage1_block0"]["attention"]["alpha"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(poling="icp"), "Did you mean 'pooling'"),
        (dict(pooling="max"), "icp, fec, shared"),
        (dict(dispatch="firm"), "hard, soft"),
        (dict(dtype="float64"), "float32, bfloat16"),
        (dict(head_dim=3), "must be even"),
        (dict(drop_path=1.0), "below 1"),
        (dict(center_grid=()), "two numbers of at least 1"),
        (dict(min_temperature=float("nan")), "above 0 and finite"),
        (dict(dims=(8, 0, 8, 8)), "four numbers of at least 1"),
        (dict(patch=(0, 1, 0)), "size and stride must be at least 1"),
        (dict(num_classes=0), "at least 1"),
    ],
)
def test_wrong_options_say_what_would_be_right(options, message):
    with pytest.raises(ValueError, match=message):
        cluenet_jax.create_model("cluenet_tiny", **options)
