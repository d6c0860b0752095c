"""Weights of Mask R-CNN: names and round trips, initial values, the doubling layer."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cluenet_jax
from cluenet_jax.models.heads.roi_mask import Doubling
from cluenet_jax.weights import from_torch, to_torch
from cluenet_jax.weights.torch import name_table
from tests.helpers import dense
from tests.helpers.mask_rcnn import CHANNELS, LEVELS, tiny_head, variables_of
from tests.helpers.models import random_variables


def test_doubling_is_a_transposed_convolution():
    layer, x = Doubling(3, jnp.float32), dense.normal((2, 5, 4, 6, 7), 0)
    variables = random_variables(layer, x)
    doubled = np.asarray(layer.apply(variables, x))
    chex.assert_shape(doubled, (2, 5, 8, 12, 3))
    kernel, bias = (np.asarray(variables["params"][k]) for k in ("kernel", "bias"))
    for a in range(2):
        for b in range(2):
            expected = x @ kernel[a, b] + bias
            np.testing.assert_allclose(doubled[:, :, a::2, b::2], expected, atol=1e-5)


@pytest.mark.parametrize("masks", [True, False])
def test_weights_make_the_round_trip_bit_by_bit(masks):
    head = tiny_head(masks=masks)
    rng = np.random.default_rng(0)
    state = {
        name: rng.standard_normal(array.shape).astype(np.float32)
        for name, array in to_torch(variables_of(head), head).items()
    }
    assert ("roi_head.mask_head.upsample.weight" in state) == masks
    assert state["roi_head.bbox_head.shared_fcs.0.weight"].shape == (9, 6 * 49)
    assert state["roi_head.bbox_head.fc_reg.weight"].shape == (12, 9)
    back = to_torch(from_torch(state, head), head)
    assert back.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)


def test_the_first_layer_reads_channels_first_in_checkpoints():
    head = tiny_head()
    state = to_torch(variables_of(head), head)
    weight = np.arange(9 * 6 * 49, dtype=np.float32).reshape(9, 6, 7, 7)
    state["roi_head.bbox_head.shared_fcs.0.weight"] = weight.reshape(9, -1)
    kernel = from_torch(state, head)["params"]["box_head"]["hidden1"]["kernel"]
    np.testing.assert_array_equal(kernel.reshape(7, 7, 6, 9), weight.transpose(2, 3, 1, 0))


def test_initial_weights_are_those_of_the_reference():
    head = cluenet_jax.create_head("mask_rcnn", CHANNELS, 30, neck_width=32, box_width=128)
    params = jax.jit(head.init)(jax.random.key(0), LEVELS)["params"]
    deviations = {
        ("rpn_head", "hidden"): 0.01,
        ("rpn_head", "deltas"): 0.01,
        ("box_head", "classifier"): 0.01,
        ("box_head", "deltas"): 0.001,
        ("box_head", "hidden1"): np.sqrt(2 / (32 * 49 + 128)),
        ("mask_head", "conv2"): np.sqrt(2 / (9 * 256)),
        ("mask_head", "doubling"): np.sqrt(2 / (4 * 256)),
        ("mask_head", "classifier"): np.sqrt(2 / 30),
    }
    for (part, layer), deviation in deviations.items():
        kernel = params[part][layer]["kernel"]
        np.testing.assert_allclose(np.std(kernel), deviation, rtol=0.1, err_msg=layer)
        np.testing.assert_array_equal(params[part][layer]["bias"], 0)


def test_a_whole_model_takes_the_stride_and_the_names_of_its_backbone():
    model = cluenet_jax.create_model("clustr_nano", 3, head="mask_rcnn")
    strides = model.backbone.strides
    assert model.head.stride == strides[0] != 4
    names = {entry.torch for entry, _ in name_table(model)}
    parts = ("backbone.patch_embed1", "neck.lateral_convs.3", "rpn_head.rpn_cls", "roi_head.mask_")
    assert all(any(name.startswith(part) for name in names) for part in parts)
    images = jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.float32)
    sizes = jax.ShapeDtypeStruct((2, 2), jnp.int32)

    def detect(key, images, sizes):
        variables = model.init(key, images)
        return model.apply(variables, images, image_sizes=sizes)

    shapes = jax.eval_shape(detect, jax.random.key(0), images, sizes)
    assert shapes["boxes"].shape == (2, 100, 4)
    assert shapes["mask_logits"].shape == (2, 100, 28, 28)
