"""ClusTR: equal to the reference number for number; clustering obeys its laws."""

import importlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cluenet_jax
from cluenet_jax import ops
from cluenet_jax.models.clustr import VARIANTS
from cluenet_jax.weights import from_torch, to_torch
from tests import reference
from tests.golden import DATA, load_case, relative_error
from tests.test_cluenet import first_weights, images, run

density_peaks = importlib.import_module("cluenet_jax.ops.density_peaks")

RECORDED = dict(
    num_classes=10,
    dims=(16, 32, 40, 64),
    depths=(1, 2, 1, 1),
    heads=(1, 2, 5, 8),
    mlp_ratios=(4, 4, 2, 2),
    patch=(7, 4),
)
PARAMETERS = {"clustr_b1": 11_682_417, "clustr_b2": 22_690_941, "clustr_b3": 40_246_210}
TINY = dict(num_classes=3, dims=(8, 8, 16, 16), depths=(1, 2, 1, 1), heads=(1, 2, 2, 4))


def tiny(**overrides):
    return cluenet_jax.create_model("clustr_nano", **{**TINY, **overrides})


def recorded_network(case):
    model = cluenet_jax.create_model("clustr_nano", **RECORDED)
    return model, from_torch(case["param"], model)


@pytest.mark.parametrize("name", ["clustr_nano_64", "clustr_nano_96x128"])
def test_outputs_equal_the_reference(name):
    case = load_case(name, parameters_of="clustr_nano_64")
    model, variables = recorded_network(case)
    logits, maps = run(model, variables, case["input"], return_maps=True)
    assert relative_error(logits, case["logits"]) < 1e-4
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, case["labels"])
    assert relative_error(losses.mean(), case["loss"]) < 1e-4
    for stage in (3, 4):
        if f"stage{stage}/output" in case:
            ours = maps[f"stage{stage}/features"].reshape(case[f"stage{stage}/output"].shape)
            assert relative_error(ours, case[f"stage{stage}/output"]) < 1e-4


def test_every_gradient_equals_the_reference():
    case = load_case("clustr_nano_64", parameters_of="clustr_nano_64")
    model, variables = recorded_network(case)

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


def test_clustering_equals_the_reference():
    with np.load(DATA / "dpc_knn.npz") as file:
        case = dict(file)
    clusters = jax.jit(lambda points: ops.density_peak_clustering(points, (8, 32)))
    for count, index in zip((8, 32), clusters(case["points"]), strict=True):
        np.testing.assert_array_equal(index, case[f"assignment_{count}"])
        merged = ops.merge_tokens(case["points"], case["weights"], index, count)
        assert relative_error(merged, case[f"merged_{count}"]) < 1e-6


def test_parameters_are_counted_to_the_last_digit():
    assert sorted(n for n in VARIANTS if n != "clustr_nano") == sorted(PARAMETERS)
    for name, count in PARAMETERS.items():
        model = cluenet_jax.create_model(name)
        shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count, name


@pytest.mark.parametrize("name", PARAMETERS)
def test_weights_go_to_torch_and_back_bit_for_bit(name):
    model = cluenet_jax.create_model(name)
    variables = first_weights(model, images(1, 64, 64, 3))
    chex.assert_trees_all_equal(from_torch(to_torch(variables, model), model), variables)


def points(seed: int = 0, batch: int = 2, tokens: int = 50, width: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((batch, tokens, width)).astype(np.float32)


@pytest.fixture(params=["cpu", "default"])
def backend(request, monkeypatch):
    """Runs what CPUs choose, and what all others choose."""
    choose = jax.lax.platform_dependent
    if request.param == "default":
        choose = lambda *inputs, default, **_: default(*inputs)  # noqa: E731
    monkeypatch.setattr(jax.lax, "platform_dependent", choose)


# 448 tokens are searched in groups.
@pytest.mark.parametrize("tokens", [9, 50, 448])
def test_clustering_equals_the_slow_version(tokens, backend):
    x = points(tokens=tokens)
    for count, index in zip((1, 4, 9), ops.density_peak_clustering(x, (1, 4, 9), 3), strict=True):
        for b in range(2):
            expected = reference.density_peak_clustering(x[b], count, 3)
            np.testing.assert_array_equal(index[b], expected)


@pytest.mark.parametrize("rows", [1, 7, 50])
def test_blocks_of_rows_change_nothing(rows, monkeypatch):
    x = points()
    whole = ops.density_peak_clustering(x, (4, 16))
    monkeypatch.setattr(density_peaks, "_CPU_BLOCK", rows * 50)
    chex.assert_trees_all_equal(ops.density_peak_clustering(x, (4, 16)), whole)
    monkeypatch.setattr(density_peaks, "_CPU_IMAGES", 0)
    chex.assert_trees_all_equal(ops.density_peak_clustering(x, (4, 16)), whole)


@pytest.mark.parametrize("many", [1, 7, 64])
def test_peaks_are_compared_with_all_tokens(many, monkeypatch):
    """Few neighbours leave many tokens without a denser one nearby; some parts are not full."""
    monkeypatch.setattr(density_peaks, "_PEAKS", many)
    x = points(tokens=120)
    for count, index in zip((3, 40), ops.density_peak_clustering(x, (3, 40), 3), strict=True):
        for b in range(2):
            expected = reference.density_peak_clustering(x[b], count, 3)
            np.testing.assert_array_equal(index[b], expected)


def test_permuting_tokens_permutes_the_clusters():
    x, order = points(), np.random.default_rng(1).permutation(50)
    (index,) = ops.density_peak_clustering(x, (6,))
    (permuted,) = ops.density_peak_clustering(x[:, order], (6,))
    # Clusters are numbered by the strength of their centres, so even the numbers stay.
    np.testing.assert_array_equal(index[:, order], permuted)


def test_every_cluster_has_its_centre():
    x = np.zeros((1, 20, 3), np.float32)  # All tokens equal: only ties.
    (index,) = ops.density_peak_clustering(x, (5,))
    assert set(np.asarray(index)[0]) == set(range(5))
    np.testing.assert_array_equal(index[0, :5], range(5))


def test_noise_breaks_ties_only_if_asked_for():
    x = np.zeros((1, 20, 3), np.float32)
    a, b, c = (
        ops.density_peak_clustering(x, (5,), noise_key=key)[0]
        for key in (None, None, jax.random.key(1))
    )
    np.testing.assert_array_equal(a, b)
    chex.assert_shape(c, (1, 20))
    assert (np.asarray(c) != np.asarray(a)).any()


def test_smallest_counts_equal_entries():
    values = np.array([[3.0, 1.0, 1.0, 2.0, 5.0], [0.0, 0.0, 0.0, 0.0, 9.0]], np.float32)
    found, places = density_peaks.smallest(values, 3)
    np.testing.assert_array_equal(found, [[1, 1, 2], [0, 0, 0]])
    np.testing.assert_array_equal(places, [[1, 2, 3], [0, 1, 2]])


@pytest.mark.parametrize("width", [11, 200, 448, 449, 3136])
@pytest.mark.parametrize("ties", [False, True])
def test_smallest_of_groups_are_the_smallest_of_all(width, ties):
    """Rows that divide into groups, and that do not."""
    values = points(width=width)
    values = np.round(4 * values) if ties else values
    found, places = density_peaks.smallest(values, 5)
    np.testing.assert_array_equal(found, np.sort(values)[..., :5])
    np.testing.assert_array_equal(np.take_along_axis(values, np.asarray(places), -1), found)
    assert all(len(set(row)) == 5 for row in np.asarray(places).reshape(-1, 5))


def test_merging_with_equal_weights_is_the_mean():
    x, index = points(), np.random.default_rng(1).integers(0, 7, (2, 50))
    merged = ops.merge_tokens(x, np.ones((2, 50, 1), np.float32), index, 7)
    for b in range(2):
        for m in range(7):
            np.testing.assert_allclose(merged[b, m], x[b][index[b] == m].mean(0), atol=1e-5)


def test_gradients_reach_weights_and_tokens_but_not_the_clustering():
    x, weights = jnp.asarray(points()), jnp.ones((2, 50, 1)) + 0.1 * points(1, width=1)
    (index,) = ops.density_peak_clustering(x, (6,))

    def through(x, weights):
        (found,) = ops.density_peak_clustering(x, (6,))
        return (ops.merge_tokens(x, weights, found, 6) ** 2).sum()

    def fixed(x, weights):
        return (ops.merge_tokens(x, weights, index, 6) ** 2).sum()

    ours = jax.grad(through, (0, 1))(x, weights)
    chex.assert_trees_all_close(ours, jax.grad(fixed, (0, 1))(x, weights), rtol=1e-5)
    assert all(np.abs(g).max() > 0 for g in ours)


@pytest.mark.parametrize(
    ("counts", "neighbours", "message"),
    [
        ((51,), 5, "50 tokens cannot form"),
        ((0,), 5, "cannot form"),
        ((4,), 51, "50 tokens have no"),
    ],
)
def test_too_few_tokens_are_an_error(counts, neighbours, message):
    with pytest.raises(ValueError, match=message):
        ops.density_peak_clustering(points(), counts, neighbours)


@pytest.mark.parametrize(
    "overrides", [{}, dict(cluster_scales=(1,)), dict(dtype="bfloat16")], ids=str
)
def test_every_option_trains(overrides):
    model, x = tiny(**overrides), images(2, 34, 30, 3)
    variables = first_weights(model, x)

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
    model = tiny()
    variables = first_weights(model, images(1, 32, 32, 3))
    logits, maps = run(model, variables, images(2, *size, 3), return_maps=True)
    chex.assert_tree_all_finite(logits)
    height, width = -(-size[0] // 2), -(-size[1] // 2)
    index = maps["stage1/block0/assignment"]
    chex.assert_shape(index, (2, 2, height, width))
    least = max(height * width // 64, 1)
    for scale, count in enumerate((least, min(4 * least, height * width))):
        assert set(np.unique(index[:, scale])) <= set(range(count))


def test_backbone_gives_four_stages():
    model = tiny(backbone=True)
    x = images(2, 32, 48, 3)
    outputs = run(model, first_weights(model, x), x)
    sides = [(16, 24), (8, 12), (4, 6), (2, 3)]
    for out, side, dim in zip(outputs, sides, TINY["dims"], strict=True):
        chex.assert_shape(out, (2, *side, dim))


def test_images_of_a_batch_do_not_mix():
    model, x = tiny(), images(3, 32, 32, 3)
    variables = first_weights(model, x)
    one_by_one = np.concatenate([run(model, variables, x[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(run(model, variables, x), one_by_one, atol=1e-4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (dict(cluster_scales=(4, 1)), "ascending"),
        (dict(neighbours=0), "at least 1"),
        (dict(gate=False), "has no option 'gate'"),
    ],
)
def test_wrong_options_say_what_would_be_right(overrides, message):
    with pytest.raises(ValueError, match=message):
        tiny(**overrides)
