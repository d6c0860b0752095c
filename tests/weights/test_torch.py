"""Weights to PyTorch's names and back."""

import chex
import numpy as np
import pytest
from safetensors.numpy import load_file

import cluenet_jax
from cluenet_jax.weights import from_torch, read_state_dict, to_torch, write_safetensors
from cluenet_jax.weights.torch import name_table
from tests.helpers.models import (
    random_images,
    random_variables,
    tiny_cluenet,
    tiny_clusterformer,
    tiny_clustr,
    tiny_coc,
    tiny_fec,
)

# Of the peers the smallest alone: the names of all are in the tests of their families.
PUBLISHED = ["cluenet_mini_cifar", "cluenet_micro", "clustr_b1"]
PUBLISHED += ["coc_mini_cifar", "fec_mini_cifar", "clusterformer_mini"]
# They repeat the names of the smaller ones.
LARGE = ["cluenet_tiny", "cluenet_small", "cluenet_base", "clustr_b2", "clustr_b3"]
PUBLISHED += [pytest.param(name, marks=pytest.mark.chaos) for name in LARGE]


@pytest.mark.parametrize("name", PUBLISHED)
def test_weights_go_to_torch_and_back_bit_for_bit(name):
    model = cluenet_jax.create_model(name)
    variables = random_variables(model, random_images(1, 64, 64, 3))
    chex.assert_trees_all_equal(from_torch(to_torch(variables, model), model), variables)


@pytest.mark.parametrize(
    ("tiny", "head"),
    [
        (tiny_cluenet, "semantic_fpn"),
        (tiny_cluenet, "upernet"),
        (tiny_clustr, "semantic_fpn"),
        (tiny_clustr, "upernet"),
        (tiny_coc, "semantic_fpn"),
        (tiny_fec, "semantic_fpn"),
        (tiny_clusterformer, "semantic_fpn"),
    ],
)
def test_models_of_dense_prediction_have_the_names_of_mmsegmentation(tiny, head, tmp_path):
    model = tiny(head=head)
    variables = random_variables(model, random_images(1, 32, 32, 3))
    frozen = {"frozen"} if tiny is tiny_fec else set()
    assert variables.keys() == {"params", "batch_stats", *frozen}
    weights = to_torch(variables, model)
    parts = dict(semantic_fpn={"neck", "decode_head"}, upernet={"decode_head", "auxiliary_head"})
    assert {name.split(".")[0] for name in weights} == {"backbone", *parts[head]}
    norms = [f"backbone.norm{i}.weight" for i in ((1, 4) if tiny is tiny_clustr else (0, 2, 4, 6))]
    assert set(norms) <= weights.keys() and "backbone.norm.weight" not in weights
    write_safetensors(weights, str(tmp_path / "w.safetensors"))
    chex.assert_trees_all_equal(load_file(tmp_path / "w.safetensors"), weights)
    again = from_torch(read_state_dict(str(tmp_path / "w.safetensors")), model)
    chex.assert_trees_all_equal(again, variables)
    chex.assert_trees_all_equal_dtypes(again, variables)


@pytest.mark.parametrize("name", ["linear", "semantic_fpn", "upernet"])
def test_a_head_alone_has_the_names_without_the_backbone(name):
    head = cluenet_jax.create_head(name, [8, 10, 12, 14], 5)
    levels = tuple(random_images(1, 2, 2, width) for width in head.in_channels)
    variables = random_variables(head, levels)
    weights = to_torch(variables, head)
    chex.assert_trees_all_equal(from_torch(weights, head), variables)
    counts = {k: v for k, v in weights.items() if k.endswith("num_batches_tracked")}
    assert len(counts) == dict(linear=0, semantic_fpn=7, upernet=13)[name]
    assert all(v.dtype == np.int64 and v.shape == () for v in counts.values())
    assert all(v.dtype == np.float32 for k, v in weights.items() if k not in counts)
    assert not any(name.startswith("backbone.") for name in weights)


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


def test_the_official_clusterformer_has_the_names_of_mmpretrain():
    model = cluenet_jax.create_model("clusterformer_official_tiny")
    names = {entry.torch for entry, _ in name_table(model)}
    assert {"backbone.norm6.bias", "backbone.patch_embed.proj.weight", "head.fc.weight"} <= names
    assert "norm.weight" not in names and "head.weight" not in names
