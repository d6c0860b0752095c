"""The plain convolutional backbone: as large as the others, and trained by the same recipes."""

import math

import jax
import jax.numpy as jnp
import pytest

import cluenet_jax
from benchmarks import convnet
from cluenet_jax.config import default_config
from cluenet_jax.data import DatasetInfo
from cluenet_jax.models.backbones import FAMILIES
from cluenet_jax.tasks import create_task


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setitem(FAMILIES, "convolutional", convnet.FAMILY)


def test_it_has_the_size_of_the_nano_models(known):
    images = jnp.zeros((2, 64, 96, 3))
    counts = {}
    for name in ("convolutional_nano", "cluenet_nano", "clustr_nano"):
        backbone = cluenet_jax.create_backbone(name)
        features, variables = jax.eval_shape(
            lambda x, backbone=backbone: backbone.init_with_output(jax.random.key(0), x), images
        )
        counts[name] = sum(math.prod(x.shape) for x in jax.tree.leaves(variables["params"]))
        assert [level.shape[-1] for level in features.levels] == [*backbone.channels]
    assert counts["convolutional_nano"] == pytest.approx(counts["cluenet_nano"], rel=0.1)
    assert counts["convolutional_nano"] == pytest.approx(counts["clustr_nano"], rel=0.1)


@pytest.mark.chaos
def test_a_recipe_takes_it_with_every_option(known):
    config = default_config("segmentation")
    config.model.backbone, config.model.drop_path = "convolutional_nano", 0.5
    config.model.remat = "blocks"
    config.model.convolutional.patch = (4, 4, 0)
    info = DatasetInfo("digit_scenes", ("a", "b"), (0.5,) * 3, (0.25,) * 3)
    model = create_task(config, info).build_model()
    images = jax.random.normal(jax.random.key(0), (2, 32, 48, 3))
    variables = model.init(jax.random.key(1), images)

    def loss(params):
        rest = {**variables, "params": params}
        logits, _ = model.apply(
            rest, images, train=True, rngs={"dropout": jax.random.key(2)}, mutable=["batch_stats"]
        )
        assert logits.shape == (2, 8, 12, 2)
        return (logits**2).mean()

    grads = jax.grad(loss)(variables["params"])
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(grads))
    assert any(bool(leaf.any()) for leaf in jax.tree.leaves(grads["backbone"]["stage1_block0"]))
