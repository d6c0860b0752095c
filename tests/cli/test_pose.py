"""Tools of pose models: whole images, what a detector finds, maps, programs, weights."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from cluenet_jax.checkpoints.load import load
from cluenet_jax.checkpoints.manager import Checkpoints
from cluenet_jax.checkpoints.metadata import Metadata
from cluenet_jax.cli import convert, explain, export, predict, visualize
from cluenet_jax.data import decode_image, load_dataset
from cluenet_jax.data.poses import detected_crops
from cluenet_jax.errors import UserError
from cluenet_jax.tasks import create_task
from cluenet_jax.weights import to_torch
from cluenet_jax.weights.files import write_safetensors
from tests.helpers import detection
from tests.helpers.models import SMALL_CLUENET, random_images, random_variables
from tests.helpers.pose import figures, save_checkpoint

EVAL = {"data.eval_split": "test[:2]"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("pose") / "run", **EVAL)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "figure.png"
    record = figures().eval[0]
    decode_image(record["image"], "figure").save(path)
    return path


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A model that is sure of a figure in any anchor."""
    config = detection.small_config(**{"data.name": "figure_boxes"})
    info = load_dataset("figure_boxes").info
    task = create_task(config, info)
    variables = random_variables(task.build_model(), random_images(1, *task.image_shape))
    head = variables["params"]["head"]
    for name in ("rpn_head", "box_head"):
        head[name]["deltas"] = jax.tree.map(np.zeros_like, head[name]["deltas"])
    classifier = head["box_head"]["classifier"]
    classifier["bias"] = classifier["bias"].at[0].add(100.0)
    workdir = tmp_path_factory.mktemp("detector") / "run"
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(Metadata.of_run(config, info, task.best_metric), variables=variables)
    return workdir


def run(capsys, *arguments):
    assert predict.main([*map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_a_whole_image_is_one_object(checkpoint, image, tmp_path, capsys):
    flags = [f"--checkpoint={checkpoint}", image]
    (result,) = json.loads(run(capsys, *flags, "--format=json", f"--out={tmp_path}"))
    (pose,) = result["poses"]
    trained = load(str(checkpoint))
    with Image.open(image) as file:
        (expected,) = trained.predict([trained.task.unlabeled_example(file)])
        assert Image.open(tmp_path / "figure.png").size == file.size
    np.testing.assert_allclose(
        np.reshape(pose["keypoints"], (-1, 3))[:, :2], expected.points[0], atol=1e-3
    )
    table = run(capsys, *flags, "--format=csv").splitlines()
    assert table[0] == "file,pose,name,x,y,score" and len(table) == 15
    assert table[1].split(",")[2] == "head"


def test_all_that_a_detector_finds(checkpoint, detector, image, tmp_path, capsys):
    flags = [f"--checkpoint={checkpoint}", f"--detector={detector}", image]
    (result,) = json.loads(run(capsys, *flags, "--format=json", f"--out={tmp_path}"))
    boxes = json.loads(run(capsys, f"--checkpoint={detector}", image, "--format=json"))
    scores = [d["score"] for d in boxes[0]["detections"]]
    assert min(scores) > 0.9
    # Similar poses of overlapping boxes may be left out.
    assert 1 <= len(result["poses"]) <= len(scores)
    totals = [pose["score"] for pose in result["poses"]]
    assert totals == sorted(totals, reverse=True)
    assert Image.open(tmp_path / "figure.png").size == (160, 128)
    text = run(capsys, *flags)
    assert text.count("figure, ") == len(result["poses"])


def test_boxes_that_predict_prints_are_those_of_an_evaluation(detector, image, tmp_path, capsys):
    record = figures(**{"eval_split": "test[:1]"}).eval
    named = tmp_path / record.names[0]
    named.write_bytes(image.read_bytes())
    path = tmp_path / "boxes.json"
    path.write_text(run(capsys, f"--checkpoint={detector}", named, "--format=json"))
    (crops,) = detected_crops(record, str(path), "figure")
    (entry, *_) = json.loads(path.read_text())[0]["detections"]
    x, y, width, height = entry["bbox"]
    assert crops[0].box == (x, y, x + width, y + height) and crops[0].score == entry["score"]


def test_a_detector_must_fit(checkpoint, detector, image, tmp_path):
    with pytest.raises(UserError, match="for models of single objects; this one does detection"):
        predict.main([f"--checkpoint={detector}", f"--detector={detector}", str(image)])
    digits = detection.save_checkpoint(tmp_path / "digits", sure=True)
    with pytest.raises(UserError, match="knows no 'figure', which the model is of; it knows back"):
        predict.main([f"--checkpoint={checkpoint}", f"--detector={digits}", str(image)])
    with pytest.raises(UserError, match="least_score=2.0 must be within"):
        predict.main([f"--checkpoint={checkpoint}", "--least_score=2", str(image)])


def test_the_clusters_that_keypoints_are_in(checkpoint, tmp_path, capsys):
    flags = [f"--checkpoint={checkpoint}", f"--out={tmp_path / 'out'}", "--regions", "3"]
    assert visualize.main([*flags, "--num_images=1", "--report", "--num_scored=0"]) == 0
    (folder,) = (path for path in (tmp_path / "out").iterdir() if path.is_dir())
    arrays = np.load(folder / "maps.npz")
    assert arrays["image"].shape == (64, 48, 3) and arrays["keypoints"].shape[1] == 3
    rows = json.loads((folder / "keypoints.json").read_text())
    assert rows and {row["name"] for row in rows} <= {*figures().info.class_names}
    for row in rows:
        y, x = int(row["y"] + 0.5), int(row["x"] + 0.5)
        assert row["regions"] == {"3": arrays["decision3_regions"][y, x]}
        for stage, clusters in enumerate(row["clusters"], 1):
            owner = arrays[f"stage{stage}_fields"][y, x]
            own = arrays[f"stage{stage}_clusters"].reshape(len(clusters), -1)[:, owner]
            assert clusters == own.tolist()
    with Image.open(folder / "keypoints.png") as figure:
        assert figure.width > 5 * 224
    assert "report.html" in capsys.readouterr().out


def test_faithfulness_is_measured_on_crops(checkpoint, tmp_path):
    path = tmp_path / "numbers.json"
    explain.main([f"--checkpoint={checkpoint}", "--num_images=2", f"--json={path}"])
    assert json.loads(path.read_text())


def test_exported_programs_give_heatmaps_and_points(checkpoint, image, tmp_path):
    export.main([str(checkpoint), str(tmp_path / "out")])
    described = json.loads((tmp_path / "out/model.json").read_text())
    assert described["image_shape"] == [64, 48, 3] and described["target_names"][0] == "head"
    program = jax.export.deserialize(bytearray((tmp_path / "out/model.stablehlo").read_bytes()))
    trained = load(str(checkpoint))
    with Image.open(image) as file:
        example = trained.task.unlabeled_example(file)
    outputs = program.call(example["image"][None])
    assert outputs["heatmaps"].shape == (1, 32, 24, 14) and outputs["scores"].shape == (1, 14)
    heatmaps = trained.model.apply(
        trained.variables, trained.task.normalized({"image": example["image"][None]})
    )
    np.testing.assert_allclose(outputs["heatmaps"], heatmaps, atol=1e-4)


@pytest.mark.parametrize("prefix", ["head.", "keypoint_head."])
def test_weights_of_both_versions_become_a_checkpoint(checkpoint, tmp_path, prefix):
    trained = load(str(checkpoint))
    weights = to_torch(trained.variables, trained.model)
    renamed = {
        f"{prefix}{name.removeprefix('head.')}" if name.startswith("head.") else name: array
        for name, array in weights.items()
    }
    file = tmp_path / "pose.safetensors"
    write_safetensors(renamed, str(file))
    options = json.dumps(SMALL_CLUENET)
    arguments = [str(file), str(tmp_path / "ours"), "--task=pose", "--backbone=cluenet_nano"]
    arguments += [f"--options={options}", '--head_options={"width": 8}', "--image_size=64"]
    arguments.append("--dataset=figures")
    convert.main(arguments)
    ours = load(str(tmp_path / "ours"))
    jax.tree.map(np.testing.assert_array_equal, ours.variables, trained.variables)
    assert ours.task.image_shape == (64, 48, 3) and len(ours.task.target_names) == 14
