"""Parameters of heads of dense prediction with 150 classes, counted to the last digit."""

import jax
import jax.numpy as jnp
import pytest

import cluenet_jax

# Of the backbone without a classifier.
BACKBONES = {"clustr_b1": 11_169_417, "clustr_b2": 22_177_941, "clustr_b3": 39_733_210}
# Of the two parts of each head, and with the backbone.
HEADS = {
    ("clustr_b1", "semantic_fpn"): (2_607_104, 1_643_158, 15_419_679),
    ("clustr_b2", "semantic_fpn"): (2_607_104, 1_643_158, 26_428_203),
    ("clustr_b3", "semantic_fpn"): (2_623_488, 1_643_158, 43_999_856),
    ("clustr_b1", "upernet"): (628_886, 29_678_742, 41_477_045),
    ("clustr_b2", "upernet"): (628_886, 29_678_742, 52_485_569),
    ("clustr_b3", "upernet"): (776_342, 29_711_510, 70_221_062),
}
# Of the neck, of the proposal network, of the heads of 80 classes, and with the backbone.
MASK_RCNN = {
    "clustr_b1": (2_607_104, 593_935, 16_949_985, 31_320_441),
    "clustr_b2": (2_607_104, 593_935, 16_949_985, 42_328_965),
    "clustr_b3": (2_623_488, 593_935, 16_949_985, 59_900_618),
}


def count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", BACKBONES)
def test_parameters_of_models(name):
    backbone = cluenet_jax.create_backbone(name)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(backbone.init, jax.random.key(0), images)
    assert count(shapes) == BACKBONES[name]
    for kind in ("semantic_fpn", "upernet"):
        head = cluenet_jax.create_head(kind, backbone.channels, 150)
        levels = tuple(jax.ShapeDtypeStruct((1, 1, 1, c), jnp.float32) for c in head.in_channels)
        parts = jax.eval_shape(head.init, jax.random.key(0), levels)["params"]
        first, decode, total = HEADS[name, kind]
        assert count(parts["decode_head"]) == decode
        assert count(parts) == first + decode
        assert BACKBONES[name] + count(parts) == total


@pytest.mark.parametrize("name", MASK_RCNN)
def test_parameters_of_detectors(name):
    channels = cluenet_jax.create_backbone(name).channels
    head = cluenet_jax.create_head("mask_rcnn", channels, 80)
    levels = tuple(jax.ShapeDtypeStruct((1, 1, 1, c), jnp.float32) for c in channels)
    parts = jax.eval_shape(head.init, jax.random.key(0), levels)["params"]
    neck, proposals, rois, total = MASK_RCNN[name]
    assert count(parts["neck"]) == neck
    assert count(parts["rpn_head"]) == proposals
    assert count([parts["box_head"], parts["mask_head"]]) == rois
    assert BACKBONES[name] + count(parts) == total
