"""Clusters inside the objects that a detection model sees: figures, numbers, or that none is."""

import io
import json

import jax
import numpy as np
import pytest
from PIL import Image

from cluenet_jax import explain
from cluenet_jax.checkpoints.load import load
from cluenet_jax.cli import visualize
from tests.helpers.browser import open_page
from tests.helpers.detection import save_checkpoint, scenes


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A wide image, which the model sees with padding below it."""
    path = tmp_path_factory.mktemp("scene") / "scene.png"
    with Image.open(io.BytesIO(scenes().eval[0]["image"])) as image:
        image.convert("RGB").crop((0, 0, 64, 36)).resize((128, 72)).save(path)
    return path


def run(checkpoint, out, *arguments):
    flags = [f"--checkpoint={checkpoint}", f"--out={out}", "--regions=2"]
    assert visualize.main([*flags, *map(str, arguments)]) == 0


def test_the_clusters_of_instances_are_drawn_and_measured(scene, tmp_path, capsys):
    checkpoint = save_checkpoint(tmp_path / "run", sure=True)
    run(checkpoint, tmp_path / "out", scene, "--num_instances=2")
    text = capsys.readouterr().out
    assert "Detected: 3 instances in 1 images" in text and "of 2 masks" in text
    folder = tmp_path / "out/scene"
    trained = load(str(checkpoint))
    with Image.open(scene) as image:
        example = trained.task.unlabeled_example(image)
    (result,) = trained.predict([example], 1)
    arrays = np.load(folder / "maps.npz")
    assert arrays["image"].shape == (36, 64, 3) and arrays["stage1_fields"].shape == (36, 64)
    # The clusters are those of the pass that found the instances, with its padding.
    images = trained.task.normalized(jax.tree.map(lambda array: array[None], example))
    maps = explain.compute_maps(trained.model, trained.variables, images)
    np.testing.assert_array_equal(arrays["stage1_clusters"], maps.clusters[0][0])
    np.testing.assert_allclose(arrays["instance_boxes"], result.boxes[:2] / 2, rtol=1e-5)
    numbers = json.loads((folder / "instances.json").read_text())
    assert numbers["least_score"] == 0.3 and numbers["num_detected"] == 3
    assert len(numbers["instances"]) == 2
    index = explain.to_image_grid(arrays["stage2_fields"][None], arrays["stage2_clusters"][None])[
        0, 0
    ]
    for entry, mask, box in zip(
        numbers["instances"], arrays["instance_masks"], arrays["instance_boxes"], strict=True
    ):
        assert entry["name"] == "3" and entry["score"] > 0.99 and entry["pixels"] == mask.sum()
        np.testing.assert_allclose(entry["box"], box, atol=1e-3)
        agreement = entry["agreement"]["stage 2, head 0"]
        assert agreement["image_iou"] == pytest.approx(explain.best_union(index, mask)[1], abs=1e-4)
        window = explain.Instance("", 0.0, box, mask).window
        chosen, value = explain.best_union(index[window], mask[window])
        assert agreement["iou"] == pytest.approx(value, abs=1e-4)
        assert agreement["regions"] == chosen.tolist()
        assert {"stage 1, grid", "decision, K = 2"} <= entry["agreement"].keys()
    assert all(entry["pixels"] for entry in numbers["instances"])
    with Image.open(folder / "instances.png") as figure:
        assert figure.width > 6 * 224 and figure.height > 2 * 120


def test_without_masks_the_box_is_the_mask(scene, tmp_path):
    checkpoint = save_checkpoint(tmp_path / "run", True, **{"model.mask_rcnn.masks": False})
    run(checkpoint, tmp_path / "out", scene)
    arrays = np.load(tmp_path / "out/scene/maps.npz")
    assert len(arrays["instance_boxes"]) == 4
    for mask, (x1, y1, x2, y2) in zip(
        arrays["instance_masks"], arrays["instance_boxes"], strict=True
    ):
        rows, columns = (axis + 0.5 for axis in np.indices(mask.shape))
        inside = (x1 <= columns) & (columns < x2) & (y1 <= rows) & (rows < y2)
        np.testing.assert_array_equal(mask, inside)
    assert arrays["instance_masks"].any(axis=(1, 2)).all()


def test_where_nothing_is_detected_it_is_said(scene, tmp_path, capsys, browser):
    checkpoint = save_checkpoint(tmp_path / "run", sure=False)
    out = tmp_path / "out"
    run(checkpoint, out, scene, "--report", "--num_scored=0")
    text = capsys.readouterr().out
    note = "Nothing detected with a score of at least 30%"
    assert f"{scene}: {note}" in text and "Detected: 0 instances in 1 images." in text
    assert not (out / "scene/instances.png").exists()
    numbers = json.loads((out / "scene/instances.json").read_text())
    assert numbers == {"least_score": 0.3, "num_detected": 0, "instances": []}
    with open_page(browser, (out / "report.html").as_uri()) as page:
        page.click(".row >> nth=0")
        page.wait_for_selector("dialog .cluenet-viewer[data-ready=yes]")
        assert note in page.inner_text("dialog .side")
