"""Weights of mmdetection's Mask R-CNN and Faster R-CNN as a checkpoint, and back."""

import functools
import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import cluenet_jax
from cluenet_jax.check import check_config
from cluenet_jax.checkpoints.load import load
from cluenet_jax.cli import convert, export
from cluenet_jax.config import config_from_dict
from cluenet_jax.errors import UserError
from cluenet_jax.weights import to_torch
from tests.helpers.models import random_images, random_variables

NUM_CLASSES = 3
NARROW = dict(neck_width=8, rpn_width=8, box_width=16, mask_width=8)
PUBLISHED = dict(neck_width=256, rpn_width=256, box_width=1024, mask_width=256)


def layers_of_head(channels, masks, neck_width, rpn_width, box_width, mask_width):
    """mmdetection's layers and the shapes of their weights; all have a bias."""
    shapes = {}
    for i, width in enumerate(channels):
        shapes[f"neck.lateral_convs.{i}.conv"] = (neck_width, width, 1, 1)
        shapes[f"neck.fpn_convs.{i}.conv"] = (neck_width, neck_width, 3, 3)
    shapes["rpn_head.rpn_conv"] = (rpn_width, neck_width, 3, 3)
    shapes["rpn_head.rpn_cls"] = (3, rpn_width, 1, 1)
    shapes["rpn_head.rpn_reg"] = (12, rpn_width, 1, 1)
    shapes["roi_head.bbox_head.shared_fcs.0"] = (box_width, neck_width * 49)
    shapes["roi_head.bbox_head.shared_fcs.1"] = (box_width, box_width)
    shapes["roi_head.bbox_head.fc_cls"] = (NUM_CLASSES + 1, box_width)
    shapes["roi_head.bbox_head.fc_reg"] = (4 * NUM_CLASSES, box_width)
    if masks:
        for i in range(4):
            width = neck_width if i == 0 else mask_width
            shapes[f"roi_head.mask_head.convs.{i}.conv"] = (mask_width, width, 3, 3)
        shapes["roi_head.mask_head.upsample"] = (mask_width, mask_width, 2, 2)
        shapes["roi_head.mask_head.conv_logits"] = (NUM_CLASSES, mask_width, 1, 1)
    return shapes


@functools.cache
def tensors_of_backbone():
    model = cluenet_jax.create_model("clustr_nano", 2, "semantic_fpn")
    tensors = to_torch(random_variables(model, random_images(1, 64, 64, 3)), model)
    return {name: array for name, array in tensors.items() if name.startswith("backbone.")}


def checkpoint_of(masks=True, widths=NARROW):
    """Tensors of a whole model under mmdetection's names."""
    tensors, rng = dict(tensors_of_backbone()), np.random.default_rng(0)
    channels = cluenet_jax.create_backbone("clustr_nano").channels
    shapes = layers_of_head(channels, masks, **widths)
    for name, shape in shapes.items():
        out = shape[1] if name.endswith("upsample") else shape[0]
        tensors[f"{name}.weight"] = rng.standard_normal(shape, np.float32)
        tensors[f"{name}.bias"] = rng.standard_normal(out, np.float32)
    return tensors


def run_convert(tensors, folder, **options):
    save_file(tensors, folder / "theirs.safetensors")
    arguments = [str(folder / "theirs.safetensors"), str(folder / "out")]
    arguments += ["--task=detection", "--backbone=clustr_nano"]
    if options:
        arguments.append(f"--head_options={json.dumps(options)}")
    convert.main(arguments)
    return load(str(folder / "out"))


@pytest.mark.parametrize(
    ("masks", "widths", "options"),
    [
        (True, PUBLISHED, {}),
        (True, NARROW, NARROW),
        (False, NARROW, {"masks": False, **NARROW}),
    ],
)
def test_weights_of_mmdetection_go_in_and_out_bit_for_bit(masks, widths, options, tmp_path):
    tensors = checkpoint_of(masks, widths)
    trained = run_convert(tensors, tmp_path, **options)
    assert trained.task.masks == masks and trained.metadata.info.num_classes == NUM_CLASSES
    model = cluenet_jax.create_model("clustr_nano", NUM_CLASSES, "mask_rcnn", options)
    assert trained.model == model
    params = trained.variables["params"]["head"]["rpn_head"]
    np.testing.assert_array_equal(params["hidden"]["bias"], tensors["rpn_head.rpn_conv.bias"])
    export.main([str(tmp_path / "out"), str(tmp_path / "ours.safetensors")])
    ours = load_file(tmp_path / "ours.safetensors")
    assert ours.keys() == tensors.keys()
    for name, array in tensors.items():
        assert ours[name].dtype == array.dtype
        np.testing.assert_array_equal(ours[name], array, err_msg=name)


def test_tools_take_a_converted_detector_as_mmdetections(tmp_path):
    """Normalized as COCO's models are, at (1333, 800), and its configuration can be run."""
    trained = run_convert(checkpoint_of(), tmp_path, **NARROW)
    config = config_from_dict(trained.metadata.config)
    check_config(config, device_count=1)
    assert config.data.name == "coco" and config.detection.eval_scale == (1333, 800)
    assert trained.metadata.info.class_names == ("0", "1", "2")
    assert trained.preprocessing.mean == (0.485, 0.456, 0.406)
    assert trained.with_image_size(64).preprocessing.shape == (64, 64, 3)


def without(part):
    def change(tensors):
        return {name: array for name, array in tensors.items() if not name.startswith(part)}

    return change


def changed(name, shape):
    return lambda tensors: {**tensors, name: np.zeros(shape, np.float32)}


FC_CLS = "roi_head.bbox_head.fc_cls.weight"


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (without("roi_head.bbox_head"), NARROW, f"no tensor {FC_CLS}"),
        (without("rpn_head.rpn_cls"), NARROW, r"2 tensors differ:\s+missing: rpn_head.rpn_cls"),
        (without("roi_head.mask_head"), NARROW, "missing: roi_head.mask_head.conv_logits"),
        (without("none"), {"masks": False, **NARROW}, "unexpected: roi_head.mask_head.upsample"),
        (without("none"), {}, r"misshapen: .*fc_cls.weight is \[4, 16\], expected \[4, 1024\]"),
        (changed(FC_CLS, (6, 16)), NARROW, r"fc_reg.weight is \[12, 16\], expected \[20, 16\]"),
        (changed(FC_CLS, (1, 16)), NARROW, rf"has no class: its tensor {FC_CLS} is \[1, 16\]"),
        (changed(FC_CLS, ()), NARROW, r"has no class: its tensor .* is \[\]"),
    ],
)
def test_what_does_not_fit_is_named(change, options, message, tmp_path):
    with pytest.raises(UserError, match=message):
        run_convert(change(checkpoint_of()), tmp_path, **options)
    assert not (tmp_path / "out").exists()


def test_names_are_those_of_the_objects_without_the_background(tmp_path):
    save_file(checkpoint_of(), tmp_path / "w.safetensors")
    names = tmp_path / "names.txt"
    arguments = [str(tmp_path / "w.safetensors"), str(tmp_path / "out"), "--task=detection"]
    arguments += ["--backbone=clustr_nano", f"--head_options={json.dumps(NARROW)}"]
    names.write_text("cat\ndog\nhen\nbackground\n")
    with pytest.raises(UserError, match="4 class names for a model of 3 classes"):
        convert.main([*arguments, f"--names={names}"])
    names.write_text("cat\ndog\nhen\n")
    convert.main([*arguments, f"--names={names}"])
    assert load(str(tmp_path / "out")).task.target_names == ("cat", "dog", "hen")


def test_retinanets_classes_are_counted_by_their_anchors(tmp_path):
    backbone = cluenet_jax.create_backbone("cluenet_nano")
    widths = dict(neck_width=8, width=8)
    model = cluenet_jax.create_model("cluenet_nano", NUM_CLASSES, "retinanet", widths)
    weights = to_torch(random_variables(model, random_images(1, 64, 64, 3)), model)
    assert weights["bbox_head.retina_cls.weight"].shape[0] == 9 * NUM_CLASSES
    assert weights["neck.lateral_convs.0.conv.weight"].shape[1] == backbone.channels[1]
    save_file(weights, str(tmp_path / "retina.safetensors"))
    arguments = [str(tmp_path / "retina.safetensors"), str(tmp_path / "ours"), "--task=detection"]
    options = [
        "--backbone=cluenet_nano",
        "--head=retinanet",
        f"--head_options={json.dumps(widths)}",
    ]
    convert.main([*arguments, *options])
    ours = load(str(tmp_path / "ours"))
    assert len(ours.task.target_names) == NUM_CLASSES and not ours.task.masks
    theirs = to_torch(ours.variables, ours.model)
    assert theirs.keys() == weights.keys()
    assert all(np.array_equal(theirs[name], weights[name]) for name in weights)
