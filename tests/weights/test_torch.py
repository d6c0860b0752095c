"""Weights to PyTorch's names and back."""

import chex
import pytest

import cluenet_jax
from cluenet_jax.weights import from_torch, to_torch
from tests.helpers.models import random_images, random_variables, tiny_cluenet

PUBLISHED = [name for name in cluenet_jax.list_models() if "nano" not in name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_weights_go_to_torch_and_back_bit_for_bit(name):
    model = cluenet_jax.create_model(name)
    variables = random_variables(model, random_images(1, 64, 64, 3))
    chex.assert_trees_all_equal(from_torch(to_torch(variables, model), model), variables)


def test_from_torch_lists_all_that_does_not_fit():
    model = tiny_cluenet()
    weights = to_torch(random_variables(model, random_images(1, 16, 16, 3)), model)
    weights["head.weight"] = weights["head.weight"][:2]
    weights["stray"] = weights.pop("norm.bias")
    with pytest.raises(ValueError) as error:
        from_torch(weights, model)
    for text in ("missing: norm.bias [16]", "unexpected: stray", "head.weight is [2, 16]"):
        assert text in str(error.value)


def test_an_ablation_has_no_counterpart():
    with pytest.raises(ValueError, match="no counterpart .*guide"):
        from_torch({}, tiny_cluenet(pooling="fec"))
