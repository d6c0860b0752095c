"""The detection task: examples, losses, results in pixels of each image, whole runs."""

import io
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from cluenet_jax import evaluation
from cluenet_jax.checkpoints.load import load
from cluenet_jax.cli import export, predict, visualize
from cluenet_jax.errors import UserError
from cluenet_jax.tasks import create_task
from cluenet_jax.train import sharding
from cluenet_jax.train.loop import train_and_evaluate
from tests.helpers.compilation import programs_kept
from tests.helpers.detection import scenes, small_config
from tests.helpers.images import encode


def resized_scene(size: tuple[int, int]) -> dict:
    """A scene of one digit, stretched to another size."""
    record = scenes().train[0]
    with Image.open(io.BytesIO(record["image"])) as image:
        stretched = image.resize(size[::-1])
    factors = np.divide(size, record["size"])[[1, 0, 1, 0]]
    instances = record["instances"].select(np.array([0]))
    bitmap = Image.fromarray(coco_mask.decode(instances.masks[0])).resize(size[::-1], 0)
    code = coco_mask.encode(np.asfortranarray(bitmap))
    instances = type(instances)(
        instances.boxes * factors, instances.labels, instances.areas, instances.crowd, (code,)
    )
    image = encode(stretched)
    return {**record, "image": image, "size": size, "instances": instances}


class Resized:
    """Images of several sizes, wide, high and square."""

    sizes = [(40, 60), (60, 40), (33, 50), (50, 50)]

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        return {**resized_scene(self.sizes[index]), "image_id": index, "name": f"image {index}"}


@pytest.mark.parametrize("masks", [True, False])
def test_examples_have_the_promised_form_and_travel_to_workers(masks):
    dataset = scenes()
    config = small_config(**{"model.mask_rcnn.masks": masks})
    task = pickle.loads(pickle.dumps(create_task(config, dataset.info)))
    record = dataset.train[3]
    example = task.train_example(record, np.random.default_rng(0))
    forms = {key: (array.shape, array.dtype) for key, array in example.items()}
    assert forms == {key: (s.shape, s.dtype) for key, s in task.example_spec().items()}
    assert ("bitmaps" in forms) == masks
    example = task.eval_example(record)
    forms = {key: (array.shape, array.dtype) for key, array in example.items()}
    assert forms == {key: (s.shape, s.dtype) for key, s in task.eval_spec().items()}


def test_images_of_a_canvas_share_batches():
    source = Resized()
    config = small_config(**{"augment.short_sides": (32,), "detection.eval_scale": (64, 32)})
    task = create_task(config, scenes().info)
    groups = task.train_groups(source)
    assert groups == [True, False, True, False]
    rng = np.random.default_rng(0)
    for index, wide in enumerate(groups):
        example = task.train_example(source[index], rng)
        canvas = (32, 64) if wide else (64, 32)
        assert example["image"].shape == (*canvas, 3)
        assert example["bitmaps"].shape == (4, canvas[0], canvas[1] // 8)
        (box,), (bitmap,) = (example[name][example["present"]] for name in ("boxes", "bitmaps"))
        bitmap = np.unpackbits(bitmap, axis=-1)
        ys, xs = np.flatnonzero(bitmap.any(1)), np.flatnonzero(bitmap.any(0))
        np.testing.assert_allclose(box, [xs[0], ys[0], xs[-1] + 1, ys[-1] + 1], atol=1.5)
        assert task.eval_shape(source[index])[0] == canvas
    square = small_config(**{"augment.short_sides": (48, 64)})
    assert create_task(square, scenes().info).train_groups(source) is None


def test_what_is_beyond_an_image_is_zero_for_the_model():
    task = create_task(small_config(), scenes().info)
    images = np.full((2, 8, 8, 3), 200, np.uint8)
    batch = {"image": images, "size": np.array([[5, 8], [8, 3]], np.int32)}
    seen = np.asarray(task.augment(jax.random.key(0), batch)["image"])
    assert (seen[0, 5:] == 0).all() and (seen[1, :, 3:] == 0).all()
    assert (seen[0, :5] != 0).all() and (seen[1, :, :3] != 0).all()


def known_detections(images, image_sizes=None):
    """One detection each: class 3 in the middle half of what an image fills."""
    sizes = jnp.asarray(image_sizes, jnp.float32)[:, ::-1]
    boxes = jnp.concatenate([sizes / 4, 3 * sizes / 4], axis=-1)[:, None]
    shape = boxes.shape[:2]
    return {
        "boxes": boxes,
        "scores": jnp.full(shape, 0.75),
        "labels": jnp.full(shape, 3, jnp.int32),
        "valid": jnp.ones(shape, bool),
        "mask_logits": jnp.full((*shape, 28, 28), 10.0),
    }


def test_results_are_in_pixels_of_the_image_itself():
    config = small_config(**{"detection.eval_scale": (64, 32)})
    task = create_task(config, scenes().info)
    image = Image.new("RGB", (120, 40))
    batch = {name: array[None] for name, array in task.unlabeled_example(image).items()}
    (result,) = task.to_results(jax.device_get(task.predict(known_detections, batch)))
    np.testing.assert_allclose(result.boxes, [[30, 10, 90, 30]], rtol=1e-5)
    (entry,) = result.to_json(5)["detections"]
    assert entry["category"] == "2" and entry["category_id"] == 3 and entry["score"] == 0.75
    assert entry["bbox"] == [30, 10, 60, 20]
    expected = np.zeros((40, 120), bool)
    expected[10:30, 30:90] = True
    np.testing.assert_array_equal(coco_mask.decode(entry["segmentation"]), expected)
    drawn = task.draw(Image.fromarray(batch["image"][0]), result)
    assert drawn.size == image.size and np.asarray(drawn)[20, 60].any()
    assert result.entries() == [("2", 0.75)] and json.dumps(result.to_json(5))


@pytest.mark.parametrize("masks", [True, False])
def test_small_results_are_enlarged_for_text_and_brought_to_the_models_size(masks):
    config = small_config(**{"detection.eval_scale": (64, 32), "model.mask_rcnn.masks": masks})
    task = create_task(config, scenes().info)
    example = task.unlabeled_example(Image.new("RGB", (120, 40)))
    assert task.shown_size(example) == (21, 64)
    batch = {name: array[None] for name, array in example.items()}
    predictions = dict(task.predict(known_detections, batch))
    if not masks:
        del predictions["mask_logits"]
    (result,) = task.to_results(jax.device_get(predictions))
    (name, score, box, mask) = result.instances((20, 60), 1)[0]
    assert (name, score) == ("2", 0.75) and result.instances((20, 60), 0) == []
    np.testing.assert_allclose(box, [15, 5, 45, 15], rtol=1e-5)
    expected = np.zeros((20, 60), bool)
    expected[5:15, 15:45] = True
    np.testing.assert_array_equal(mask, expected)
    large = result.enlarged(300)
    assert large.size == (120, 360) and result.enlarged(120) is result
    np.testing.assert_allclose(large.boxes, result.boxes * 3)
    np.testing.assert_array_equal(large.instances((20, 60), 1)[0][3], mask)
    assert task.draw(Image.fromarray(example["image"]), large).size == (360, 120)


def test_what_is_right_is_counted_so_at_every_size():
    """Truths given as detections: all numbers are 1."""
    source = Resized()
    config = small_config(**{"detection.eval_scale": (64, 32)})
    task, mesh = create_task(config, scenes().info), sharding.make_mesh()
    evaluator = task.evaluator()
    shapes = evaluation.example_shapes(task, source)
    for batch in evaluation.read_eval_set(task, source, 8, mesh, shapes):
        batch = jax.device_get(batch)
        boxes = np.zeros((len(batch["valid"]), 1, 4), np.float32)
        labels = np.zeros(boxes.shape[:2], np.int32)
        for row in np.flatnonzero(batch["valid"]):
            truth = json.loads(batch["truth"][row].tobytes().rstrip(b"\0"))
            x, y, width, height = truth["boxes"][0]
            factors = np.divide(batch["size"][row], truth["size"])[[1, 0, 1, 0]]
            boxes[row, 0] = np.array([x, y, x + width, y + height]) * factors
            labels[row, 0] = truth["labels"][0]
        ones = np.ones(labels.shape)
        predictions = {"boxes": boxes, "labels": labels, "scores": ones, "valid": ones > 0}
        predictions["mask_logits"] = np.full((*labels.shape, 28, 28), 9.0)
        evaluator.add(predictions, batch)
    metrics = evaluator.compute()
    assert metrics["count"] == 4 and metrics["box_ap"] == pytest.approx(1)
    assert 0 <= metrics["mask_ap"] < 1, "a full box is no digit"


@pytest.fixture(scope="module")
def run(tmp_path_factory, compiled_programs):
    """The workdir of a run of four steps."""
    folder = tmp_path_factory.mktemp("runs")
    config = small_config(**{"data.eval_split": "test[:6]"})
    config.optim.batch_size = config.eval.batch_size = 8
    config.train.log_every, config.checkpoint.keep_latest = 1, 5
    with programs_kept(compiled_programs):
        config.train.max_steps = 4
        train_and_evaluate(config, str(folder / "undisturbed"))
    return folder / "undisturbed"


def test_a_run_records_the_parts_of_its_loss(run):
    ours = load(str(run / "checkpoints/4"))
    assert ours.metadata.best_metric == "box_ap" and ours.metadata.metrics["count"] == 6
    records = (run / "metrics.jsonl").read_text().splitlines()
    last = [json.loads(line) for line in records if '"train/mask"' in line][-1]
    parts = [
        last[f"train/{name}"] for name in ("rpn_objectness", "rpn_box", "class", "box", "mask")
    ]
    assert sum(parts) == pytest.approx(last["train/loss"], rel=1e-4) and min(parts) > 0


@pytest.mark.chaos
def test_retinanet_learns_boxes_alone(tmp_path, compiled_programs):
    config = small_config()
    config.model.mask_rcnn.update(dict.fromkeys(config.model.mask_rcnn, None))
    config.model.head = "retinanet"
    config.model.retinanet.update(
        dict(neck_width=8, width=8, eval_candidates=20, max_detections=4, score_threshold=0.001)
    )
    config.data.train_split, config.data.eval_split = "train[:8]", "test[:3]"
    config.optim.batch_size, config.optim.warmup_epochs, config.optim.peak_lr = 8, 0.0, 1e-2
    config.train.max_steps, config.train.log_every, config.eval.batch_size = 6, 1, 4
    with programs_kept(compiled_programs):
        metrics = train_and_evaluate(config, str(tmp_path / "run"))
    assert metrics["count"] == 3 and "mask_ap" not in metrics
    records = [json.loads(r) for r in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = [record["step/loss"] for record in records if "step/loss" in record]
    assert losses[-1] < losses[0]
    means = next(record for record in records if "train/loss" in record)
    assert {"train/class", "train/box"} <= means.keys()


def test_a_checkpoint_predicts_in_cocos_form_and_draws(run, tmp_path, capsys):
    image = tmp_path / "scene.png"
    image.write_bytes(scenes().eval[0]["image"])
    arguments = [f"--checkpoint={run}", "--format=json", str(image)]
    assert predict.main([*arguments, f"--out={tmp_path / 'out'}"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["detections"] and row["detections"] == sorted(
        row["detections"], key=lambda entry: -entry["score"]
    )
    for entry in row["detections"]:
        assert entry.keys() == {"category_id", "category", "bbox", "score", "segmentation"}
        assert coco_mask.decode(entry["segmentation"]).shape == (64, 64)
    with Image.open(tmp_path / "out/scene.png") as drawn:
        assert drawn.size == (64, 64)


def test_a_checkpoint_is_exported_and_its_clusters_are_drawn(run, tmp_path):
    checkpoint = str(run)
    export.main([checkpoint, str(tmp_path / "exported")])
    program = jax.export.deserialize(
        bytearray((tmp_path / "exported/model.stablehlo").read_bytes())
    )
    trained = load(checkpoint)
    with Image.open(io.BytesIO(scenes().eval[0]["image"])) as image:
        pixels = np.asarray(image.convert("RGB"))
    (result,) = trained.predict([trained.task.unlabeled_example(Image.fromarray(pixels))], 1)
    output = program.call(np.stack([pixels] * 3))
    valid = np.asarray(output["valid"][2])
    np.testing.assert_allclose(output["boxes"][2][valid], result.boxes, atol=1e-3)
    np.testing.assert_array_equal(output["labels"][2][valid], result.labels)
    arguments = [f"--checkpoint={checkpoint}", "--num_images=1", "--regions", "2"]
    assert visualize.main([*arguments, f"--out={tmp_path / 'maps'}"]) == 0
    assert (tmp_path / "maps/contact_sheet.png").is_file()


def test_a_checkpoint_is_evaluated_as_in_its_run(run):
    path = str(run / "checkpoints/4")
    metrics = evaluation.evaluate_checkpoint(path).evaluator.compute()
    assert metrics == pytest.approx(load(path).metadata.metrics)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augment.long_side": 32}, "at least the largest of augment.short_sides, 64"),
        ({"data.cache": True}, "detection changes every image"),
        ({"data.name": "camvid"}, "'camvid' is for segmentation"),
    ],
)
def test_a_config_that_cannot_run_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        train_and_evaluate(small_config(**settings), "/nowhere")
