"""Models of all families: look-up by name, laws of a batch, rematerialization."""

import chex
import jax
import numpy as np
import pytest

import cluenet_jax
from tests.helpers.models import (
    random_images,
    random_variables,
    run,
    tiny_cluenet,
    tiny_clusterformer,
    tiny_clustr,
    tiny_coc,
    tiny_fec,
)

TINY = {
    "cluenet": tiny_cluenet,
    "clustr": tiny_clustr,
    "coc": tiny_coc,
    "fec": tiny_fec,
    "clusterformer": tiny_clusterformer,
}


@pytest.fixture(params=TINY)
def tiny(request):
    return TINY[request.param]


def test_unknown_names_get_a_suggestion():
    with pytest.raises(ValueError, match="Did you mean 'cluenet_tiny'"):
        cluenet_jax.create_model("cluenet_tony")
    with pytest.raises(ValueError, match="Unknown head 'linar'. Did you mean 'linear'"):
        cluenet_jax.create_model("cluenet_tiny", head="linar")
    with pytest.raises(ValueError, match="Unknown head 'fpn'"):
        cluenet_jax.create_head("fpn", (8, 8, 8, 8), 3)
    with pytest.raises(ValueError, match="head linear: .*'widths'"):
        cluenet_jax.create_head("linear", (8, 8, 8, 8), 3, widths=4)
    assert "clustr_b2" in cluenet_jax.list_models()


def test_parameters_are_of_a_backbone_and_a_head(tiny):
    model, x = tiny(), random_images(1, 32, 32, 3)
    variables = random_variables(model, x)
    assert variables.keys() == ({"params", "frozen"} if tiny is tiny_fec else {"params"})
    assert variables["params"].keys() == {"backbone", "head"}
    features = run(model, variables, x, method="features")
    logits = run(model, variables, features.levels, method="decode")
    np.testing.assert_allclose(logits, run(model, variables, x), atol=1e-5)
    norm = dict(norm_epsilon=model.head.norm_epsilon, group_norm=model.head.group_norm)
    head = cluenet_jax.create_head("linear", model.backbone.channels, 3, **norm)
    alone = head.apply({"params": variables["params"]["head"]}, features.levels)
    np.testing.assert_allclose(alone, logits, atol=1e-5)


def test_images_of_a_batch_do_not_mix(tiny):
    model, x = tiny(), random_images(3, 32, 32, 3)
    variables = random_variables(model, x)
    one_by_one = np.concatenate([run(model, variables, x[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(run(model, variables, x), one_by_one, atol=1e-4)


def test_stochastic_depth_drops_branches_in_training_only(tiny):
    model = tiny(drop_path=0.9)
    x = np.repeat(random_images(1, 16, 16, 3), 8, axis=0)
    variables = random_variables(model, x)
    still = run(model, variables, x)
    np.testing.assert_allclose(still, still[:1].repeat(8, 0), atol=1e-4)
    dropped = run(model, variables, x, train=True, rngs={"dropout": jax.random.key(0)})
    assert np.unique(np.round(dropped[:, 0], 5)).size > 1
    again = run(model, variables, x, train=True, rngs={"dropout": jax.random.key(0)})
    np.testing.assert_array_equal(dropped, again)


@pytest.mark.parametrize("shape", [(1, 16, 16, 1), (16, 16, 3), (1, 0, 16, 3)])
def test_wrong_images_say_what_would_be_right(tiny, shape):
    with pytest.raises(ValueError, match=r"expected \[batch, height, width, 3\]"):
        tiny().init(jax.random.key(0), random_images(*shape))


@pytest.mark.parametrize("name", ["cluenet_nano", "clustr_nano"])
def test_what_is_not_a_number_stays_in_its_image(name):
    model = cluenet_jax.create_model(name)
    x = random_images(3, 32, 32, 3)
    variables = random_variables(model, x)
    spoiled = x.copy()
    spoiled[1, 5, 5] = np.nan
    logits, expected = (jax.jit(model.apply)(variables, x) for x in (spoiled, x))
    assert not np.isfinite(logits[1]).any()
    np.testing.assert_allclose(logits[np.array([0, 2])], expected[np.array([0, 2])], atol=1e-6)


@pytest.mark.parametrize(
    "name", ["cluenet_nano", pytest.param("clustr_nano", marks=pytest.mark.chaos)]
)
def test_rematerialization_changes_no_gradient_and_keeps_less(name):
    sizes = dict(dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2))
    x = random_images(2, 32, 32, 3)
    grads, kept_sizes = {}, {}
    for remat in ("none", "blocks"):
        model = cluenet_jax.create_model(name, 3, remat=remat, drop_path=0.5, **sizes)
        variables = random_variables(model, x)

        def loss(variables, model=model):
            logits = model.apply(variables, x, train=True, rngs={"dropout": jax.random.key(0)})
            return (logits**2).sum()

        kept = jax.eval_shape(lambda v, loss=loss: jax.vjp(loss, v)[1], variables)
        grads[remat] = jax.jit(jax.grad(loss))(variables)
        kept_sizes[remat] = sum(leaf.size for leaf in jax.tree.leaves(kept))
    chex.assert_trees_all_close(grads["none"], grads["blocks"], rtol=1e-3, atol=1e-4)
    assert kept_sizes["blocks"] < kept_sizes["none"] / 2
    with pytest.raises(ValueError, match="remat='all' is not one of none, dots, blocks"):
        cluenet_jax.create_model(name, remat="all")
