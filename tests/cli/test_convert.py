"""PyTorch weights as a checkpoint."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import cluenet_jax
from cluenet_jax import weights
from cluenet_jax.checkpoints.load import load
from cluenet_jax.cli import convert
from cluenet_jax.errors import UserError
from tests.helpers.converted import ARGUMENTS
from tests.helpers.golden import relative_error


def test_converted_weights_give_the_recorded_logits(case, converted):
    trained = load(str(converted))
    logits = jax.jit(trained.model.apply)(trained.variables, case["input"])
    assert relative_error(logits, case["logits"]) < 1e-5
    metadata = trained.metadata
    assert metadata.info.class_names[3] == "kind 3" and metadata.step == 0
    assert metadata.config["model"]["cluenet"]["dims"] == [8, 16, 24, 32]
    assert metadata.metrics == {} and "jax" in metadata.versions


@pytest.mark.parametrize(
    ("file", "content", "arguments", "message"),
    [
        ("gone.npz", None, [], "there is no such file"),
        ("a.txt", b"x", [], "expected a file of one of the kinds"),
        ("cut.npz", lambda w, f: f[:4000], [], "not a readable npz file"),
        ("cut.safetensors", b"\x10\0\0\0", [], "not a readable safetensors file"),
        ("empty.npz", {}, [], "holds no weights"),
        ("w.npz", lambda w, f: f, ["--backbone=cluenet_nan"], "Did you mean 'cluenet_nano'"),
        ("w.npz", lambda w, f: f, ["--options={"], "not JSON"),
        ("w.npz", lambda w, f: f, ['--options={"center_gird": 4}'], "Did you mean 'center_grid'"),
        ("w.npz", lambda w, f: f, ["--options={}"], "tensors differ"),
        ("w.npz", lambda w, f: f, ["--dataset=cifar"], "known are digits"),
        ("w.npz", lambda w, f: f, ["--head_options=[1]"], "not an object"),
        ("w.npz", lambda w, f: f, ["--head=upernett"], "Unknown head 'upernett'. Did you mean"),
        ("w.npz", lambda w, f: f, ["--task=segmentation"], "no tensor decode_head.conv_seg.weight"),
        ("w.npz", lambda w, f: f, ["--names=/nowhere"], "there is no such file"),
        ("w.npz", {"head.weight": np.ones((10, 3))}, [], "missing: norm.bias"),
        ("w.npz", {"norm.weight": np.ones(3)}, [], "no tensor head.weight"),
    ],
)
def test_what_cannot_be_converted(file, content, arguments, message, case, tmp_path):
    np.savez(tmp_path / "whole.npz", **case["param"])
    whole = (tmp_path / "whole.npz").read_bytes()
    if callable(content):
        content = content(case["param"], whole)
    if isinstance(content, bytes):
        (tmp_path / file).write_bytes(content)
    elif content is not None:
        np.savez(tmp_path / file, **content)
    target = tmp_path / "target"
    with pytest.raises(UserError, match=message):
        convert.main([str(tmp_path / file), str(target), *ARGUMENTS, *arguments])
    assert not target.exists(), "nothing half-written stays behind"


@pytest.mark.parametrize(
    ("head", "options", "flags"),
    [
        ("semantic_fpn", {"neck_width": 16, "width": 16}, []),
        ("upernet", {"width": 16, "auxiliary_width": 8}, ["--head=upernet", "--image_size=256"]),
    ],
)
def test_a_segmentation_model_of_another_project(head, options, flags, tmp_path):
    """Its tensors are mmsegmentation's; the tools then need no flag that names the task."""
    model = cluenet_jax.create_model("clustr_nano", 11, head, options)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    statistics = jax.tree.map(lambda leaf: leaf + 1, variables["batch_stats"])
    variables = {**variables, "batch_stats": statistics}
    np.savez(tmp_path / "weights.npz", **weights.to_torch(variables, model))
    arguments = [str(tmp_path / "weights.npz"), str(tmp_path / "out"), "--task=segmentation"]
    arguments += ["--backbone=clustr_nano", f"--head_options={json.dumps(options)}", *flags]
    convert.main([*arguments, "--dataset=camvid"])
    trained = load(str(tmp_path / "out"))
    chex.assert_trees_all_equal(trained.variables, variables)
    assert trained.model == model and trained.metadata.info.num_classes == 11
    assert trained.metadata.info.colors[0] == (128, 128, 128), "CamVid's sky"
    side = 256 if "--image_size=256" in flags else 512
    assert trained.task.see(Image.new("RGB", (3 * side, side))).shape == (side, 3 * side, 3)


def test_a_target_in_use_is_left_alone(converted, tmp_path):
    (tmp_path / "old").write_text("kept")
    with pytest.raises(UserError, match="is not empty"):
        convert.main([str(converted.parent / "weights.npz"), str(tmp_path), *ARGUMENTS])
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
