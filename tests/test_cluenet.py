"""CLUENet: equal to the reference number for number, and usable in every configuration."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cluenet_jax
from cluenet_jax.models.cluenet import VARIANTS
from cluenet_jax.weights import from_torch, to_torch
from tests.golden import load_case, relative_error

# What the recorded small network is, beside what its three cases differ in.
RECORDED = dict(
    num_classes=10,
    dims=(8, 16, 24, 32),
    depths=(1, 2, 2, 1),
    heads=(1, 2, 2, 4),
    head_dim=8,
    mlp_ratios=(4, 4, 2, 2),
)
CASES = {
    "cluenet_nano_32": dict(grid=(4, 4), patch=(3, 1, 1), norm_after_pooling=True),
    "cluenet_nano_40x48": dict(grid=(4, 4), patch=(3, 1, 1), norm_after_pooling=False),
    "cluenet_nano_224": dict(grid=(7, 7), patch=(4, 4, 0), norm_after_pooling=False),
}
PARAMETERS = {
    "cluenet_mini_cifar": 3_016_788,
    "cluenet_micro": 3_017_908,
    "cluenet_tiny": 5_680_430,
    "cluenet_small": 15_048_840,
    "cluenet_base": 30_198_452,
}
TINY = dict(num_classes=3, dims=(8, 8, 16, 16), depths=(1, 2, 1, 1), heads=(1, 1, 2, 2), head_dim=8)


def tiny(**overrides):
    return cluenet_jax.create_model("cluenet_nano", **{**TINY, **overrides})


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def first_weights(model, x):
    """Random weights of the right shapes, without compiling the model's own `init`."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda s: jnp.asarray(0.3 * rng.standard_normal(s.shape, np.float32)), shapes
    )


@functools.cache
def compiled(model, **options):
    return jax.jit(lambda v, x, rngs: model.apply(v, x, rngs=rngs, **options))


def run(model, variables, x, rngs=None, **options):
    return compiled(model, **options)(variables, x, rngs)


@pytest.fixture(scope="module", params=CASES)
def recorded(request):
    case = load_case(request.param, parameters_of="cluenet_nano_32")
    model = cluenet_jax.create_model("cluenet_nano", **RECORDED, **CASES[request.param])
    params = {k: case["param"][k] for k in case["grad"]}
    variables = from_torch(params, model)

    def loss_fn(variables):
        logits, maps = model.apply(variables, case["input"], return_maps=True)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, case["labels"]).mean()
        return loss, (logits, maps)

    (loss, (logits, maps)), grads = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(variables)
    return case, dict(loss=loss, logits=logits, maps=maps, grad=to_torch(grads, model))


def test_logits_equal_the_reference(recorded):
    case, ours = recorded
    assert relative_error(ours["logits"], case["logits"]) < 1e-5
    assert relative_error(ours["loss"], case["loss"]) < 1e-5


def test_every_assignment_equals_the_reference(recorded):
    case, ours = recorded
    names = [k for k in case if k.endswith("assignment")]
    assert len(names) == 7  # four stages, three poolings
    for name in names:
        np.testing.assert_array_equal(np.ravel(ours["maps"][name]), np.ravel(case[name]), name)


def test_every_gradient_equals_the_reference(recorded):
    case, ours = recorded
    assert ours["grad"].keys() == case["grad"].keys()
    errors = {k: relative_error(ours["grad"][k], g) for k, g in case["grad"].items()}
    assert max(errors.values()) < 1e-4, max(errors, key=errors.get)


def test_parameters_are_counted_to_the_last_digit():
    published = [name for name in VARIANTS if name != "cluenet_nano"]
    assert sorted(published) == sorted(PARAMETERS), "every published variant has its count here"
    for name, count in PARAMETERS.items():
        model = cluenet_jax.create_model(name)
        shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count, name


@pytest.mark.parametrize("name", PARAMETERS)
def test_weights_go_to_torch_and_back_bit_for_bit(name):
    model = cluenet_jax.create_model(name)
    variables = first_weights(model, images(1, 32, 32, 3))
    chex.assert_trees_all_equal(from_torch(to_torch(variables, model), model), variables)


def test_from_torch_lists_all_that_does_not_fit():
    model = tiny()
    weights = to_torch(first_weights(model, images(1, 16, 16, 3)), model)
    weights["head.weight"] = weights["head.weight"][:2]
    weights["stray"] = weights.pop("norm.bias")
    with pytest.raises(ValueError) as error:
        from_torch(weights, model)
    for text in ("missing: norm.bias [16]", "unexpected: stray", "head.weight is [2, 16]"):
        assert text in str(error.value)


@pytest.mark.parametrize(
    "overrides",
    [
        dict(pooling="fec"),
        dict(pooling="shared"),
        dict(gate=False),
        dict(share_assignment=False),
        dict(learn_temperature=False),
        dict(dispatch="soft"),
        dict(grid=(2, 3), num_classes=7),
        dict(dtype="bfloat16"),
    ],
    ids=str,
)
def test_every_option_trains(overrides):
    """Logits have the right form, and every parameter gets a gradient unless it cannot."""
    model = tiny(**overrides)
    x = images(2, 18, 22, 3)
    variables = first_weights(model, x)

    def loss(variables):
        logits = run(model, variables, x, train=True, rngs={"dropout": jax.random.key(1)})
        chex.assert_shape(logits, (2, overrides.get("num_classes", 3)))
        chex.assert_type(logits, jnp.float32)
        return (logits**2).sum()

    grads = jax.jit(jax.grad(loss))(variables)
    chex.assert_tree_all_finite(grads)
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        # The guide of FEC's pooling only chooses; softmaxes do not feel a shift of the keys.
        cannot = "/guide/" in name or (
            name.endswith("key/bias") and overrides.get("dispatch") == "soft"
        )
        assert cannot or np.abs(grad).max() > 0, name
        assert not ("/guide/" in name and np.abs(grad).max() > 0), name


@pytest.mark.parametrize("size", [(32, 32), (15, 15), (9, 14), (2, 2), (1, 5)])
def test_any_input_size(size):
    model = tiny(patch=(3, 1, 1))
    x = images(2, *size, 3)
    variables = first_weights(model, images(1, 8, 8, 3))
    logits, maps = run(model, variables, x, return_maps=True)
    chex.assert_shape(logits, (2, 3))
    chex.assert_tree_all_finite(logits)
    height, width = size
    for stage in range(1, 5):
        chex.assert_shape(maps[f"stage{stage}/assignment"], (2, None, height, width))
        height, width = -(-height // 2), -(-width // 2)


def test_maps_partition_the_grid():
    model = tiny()
    x = images(2, 20, 28, 3)
    variables = first_weights(model, x)
    _, maps = run(model, variables, x, return_maps=True)
    chex.assert_shape(maps["stage1/assignment"], (2, 1, 10, 14))
    chex.assert_shape(maps["stage2/gate"], (2, 2, 1, 4, 4))
    chex.assert_shape(maps["pool1/assignment"], (2, 10, 14))
    chex.assert_shape(maps["pre_logits"], (2, 16))
    for stage in range(1, 5):
        index = maps[f"stage{stage}/assignment"]
        assert index.min() >= 0 and index.max() < 16
        assert 0 < maps[f"stage{stage}/weight"].min() <= maps[f"stage{stage}/weight"].max() < 1


def test_backbone_gives_four_normalised_stages():
    model = tiny(backbone=True)
    x = images(2, 32, 48, 3)
    variables = first_weights(model, x)
    outputs = run(model, variables, x)
    sides = [(16, 24), (8, 12), (4, 6), (2, 3)]
    for i, (out, side, dim) in enumerate(zip(outputs, sides, (8, 8, 16, 16), strict=True)):
        chex.assert_shape(out, (2, *side, dim))
        norm = variables["params"][f"stage{i + 1}_norm"]
        standard = (out - norm["bias"]) / norm["scale"]
        np.testing.assert_allclose(standard.mean(-1), 0, atol=1e-4)
        np.testing.assert_allclose(standard.std(-1), 1, rtol=1e-2)
    assert "head" not in variables["params"]


def test_images_of_a_batch_do_not_mix():
    model = tiny()
    x = images(3, 16, 16, 3)
    variables = first_weights(model, x)
    one_by_one = np.concatenate([run(model, variables, x[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(run(model, variables, x), one_by_one, atol=1e-5)


def test_stochastic_depth_drops_branches_in_training_only():
    model = tiny(drop_path=0.9)
    x = np.repeat(images(1, 16, 16, 3), 8, axis=0)
    variables = first_weights(model, x)
    still = run(model, variables, x)
    np.testing.assert_allclose(still, still[:1].repeat(8, 0), atol=1e-5)
    dropped = run(model, variables, x, train=True, rngs={"dropout": jax.random.key(0)})
    assert np.unique(np.round(dropped[:, 0], 5)).size > 1
    again = run(model, variables, x, train=True, rngs={"dropout": jax.random.key(0)})
    np.testing.assert_array_equal(dropped, again)


def test_temperature_has_a_lower_bound():
    model = tiny()
    x = images(1, 16, 16, 3)
    variables = first_weights(model, x)
    alpha = ("stage1_block0", "attention", "alpha")
    for value in (-50.0, -500.0):
        variables["params"][alpha[0]][alpha[1]][alpha[2]] = jnp.float32(value)
        logits = run(model, variables, x)
        chex.assert_tree_all_finite(logits)
    grad = jax.jit(jax.grad(lambda v: model.apply(v, x).sum()))(variables)
    assert grad["params"][alpha[0]][alpha[1]][alpha[2]] == 0


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("cluenet_tony", {}, "Did you mean 'cluenet_tiny'"),
        ("cluenet_tiny", dict(poling="icp"), "Did you mean 'pooling'"),
        ("cluenet_tiny", dict(pooling="max"), "icp, fec, shared"),
        ("cluenet_tiny", dict(dispatch="firm"), "hard, soft"),
        ("cluenet_tiny", dict(dtype="float64"), "float32, bfloat16"),
        ("cluenet_tiny", dict(head_dim=3), "must be even"),
        ("cluenet_tiny", dict(drop_path=1.0), "below 1"),
        ("cluenet_tiny", dict(num_classes=0), "at least 1"),
    ],
)
def test_wrong_options_say_what_would_be_right(name, overrides, message):
    with pytest.raises(ValueError, match=message):
        cluenet_jax.create_model(name, **overrides)


@pytest.mark.parametrize("shape", [(1, 16, 16, 1), (16, 16, 3), (1, 1, 16, 3)])
def test_wrong_images_say_what_would_be_right(shape):
    with pytest.raises(ValueError, match=r"expected \[batch, height, width, 3\]"):
        tiny().init(jax.random.key(0), images(*shape))


@pytest.mark.parametrize("name", ["cluenet_nano", "clustr_nano"])
def test_what_is_not_a_number_stays_in_its_image(name):
    model = cluenet_jax.create_model(name)
    x = images(3, 32, 32, 3)
    variables = first_weights(model, x)
    broken = x.copy()
    broken[1, 5, 5] = np.nan
    logits, expected = (jax.jit(model.apply)(variables, x) for x in (broken, x))
    assert not np.isfinite(logits[1]).any()
    np.testing.assert_allclose(logits[np.array([0, 2])], expected[np.array([0, 2])], atol=1e-6)


@pytest.mark.parametrize("name", ["cluenet_nano", "clustr_nano"])
def test_rematerialization_changes_no_gradient_and_keeps_less(name):
    sizes = dict(num_classes=3, dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), heads=(1, 1, 2, 2))
    x = images(2, 32, 32, 3)
    found = {}
    for remat in ("none", "blocks"):
        model = cluenet_jax.create_model(name, remat=remat, drop_path=0.5, **sizes)
        variables = first_weights(model, x)

        def loss(variables, model=model):
            logits = model.apply(variables, x, train=True, rngs={"dropout": jax.random.key(0)})
            return (logits**2).sum()

        kept = jax.eval_shape(lambda v, loss=loss: jax.vjp(loss, v)[1], variables)
        found[remat] = (
            jax.jit(jax.grad(loss))(variables),
            sum(leaf.size for leaf in jax.tree.leaves(kept)),
        )
    chex.assert_trees_all_close(found["none"][0], found["blocks"][0], rtol=1e-3, atol=1e-4)
    assert found["blocks"][1] < found["none"][1] / 2
    with pytest.raises(ValueError, match="remat='all' is not one of none, dots, blocks"):
        cluenet_jax.create_model(name, remat="all")
