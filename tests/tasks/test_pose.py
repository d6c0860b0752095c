"""The pose task: examples, losses, metrics over crops, results in pixels of the image."""

import functools
import io
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cluenet_jax import evaluation, ops
from cluenet_jax.data.records import batched_by_shape
from cluenet_jax.errors import ImageError, UserError
from cluenet_jax.tasks import create_task
from cluenet_jax.train import sharding
from cluenet_jax.train.loop import train_and_evaluate
from tests.helpers.compilation import programs_kept
from tests.helpers.pose import figures, prepared, save_checkpoint, small_config


def task_of(**settings):
    return create_task(small_config(**settings), figures().info)


def forms(arrays):
    return {key: (array.shape, array.dtype) for key, array in arrays.items()}


def test_examples_have_the_promised_form_and_travel_to_workers():
    task = pickle.loads(pickle.dumps(task_of()))
    dataset = pickle.loads(pickle.dumps(prepared(task, figures())))
    example = task.train_example(dataset.train[3], np.random.default_rng(0))
    assert forms(example) == forms(task.example_spec())
    example = task.eval_example(dataset.eval[0])
    assert forms(example) == forms(task.eval_spec())


class Oracle:
    """A model that knows the true heatmaps, by the order in which crops come."""

    def __init__(self, task, points):
        self.task, self.points = task, points

    def __call__(self, images):
        height, width = self.task.crop_size[0] // 2, self.task.crop_size[1] // 2
        visible = jnp.ones(self.points.shape[:2])
        return ops.heatmap_targets(self.points, visible, (height, width), 2, 1.0)[0]


@pytest.fixture(scope="module")
def evaluated():
    """The metrics of an oracle on some figures."""
    task = task_of(**{"pose.eval_flip": False})
    dataset = prepared(task, figures(eval_split="test[:20]"))
    evaluator = task.evaluator()
    records = [dataset.eval[i] for i in range(len(dataset.eval))]
    examples = [task.eval_example(record) for record in records]
    assert {task.eval_shape(record) for record in records} == {(len(e["truth"]),) for e in examples}
    position = 0
    for batch in batched_by_shape(examples, 7):
        points = []
        for example, record in zip(batch, records[position:], strict=False):
            crop = task._crop(record["box"])
            points.append(crop.apply_points(record["points"][:, :2], 160))
            np.testing.assert_allclose(example["center"], crop.center)
        position += len(batch)
        stacked = {key: np.stack([e[key] for e in batch]) for key in batch[0]}
        stacked["valid"] = np.ones(len(batch), bool)
        oracle = Oracle(task, jnp.asarray(np.stack(points), jnp.float32))
        predictions = jax.jit(functools.partial(task.predict, oracle))(stacked)
        evaluator.add(jax.device_get(predictions), stacked)
    assert position == len(records)
    return evaluator


def test_an_oracle_is_right_everywhere(evaluated):
    metrics = evaluated.compute()
    assert metrics["ap"] > 0.99 and metrics["ar"] > 0.99 and metrics["pck"] == 1
    assert metrics["count"] >= 20 and "100.00% of keypoints" in evaluated.to_text()


def test_an_evaluation_counts_every_box_and_image_once():
    task, mesh = task_of(), sharding.make_mesh()
    dataset = prepared(task, figures(eval_split="test[:6]"))
    model = task.build_model()
    images = jnp.zeros((1, *task.image_shape))
    variables = jax.jit(model.init)(jax.random.key(0), images)
    step = jax.jit(evaluation.make_eval_step(task, model))
    shapes = evaluation.example_shapes(task, dataset.eval)
    batches = evaluation.read_eval_set(task, dataset.eval, 8, mesh, shapes)
    evaluator = evaluation.evaluate(task, step, variables, batches)
    assert evaluator.compute()["count"] == len(dataset.eval)
    assert len(dataset.eval) == sum(map(len, dataset.eval.source.poses))
    assert "images 6" in evaluator.to_text()


def test_the_loss_is_the_mean_of_squares_and_falls_to_zero():
    task = task_of()
    dataset = prepared(task, figures())
    rng = np.random.default_rng(0)
    examples = [task.train_example(dataset.train[i], rng) for i in range(3)]
    batch = {key: jnp.asarray(np.stack([e[key] for e in examples])) for key in examples[0]}
    batch["valid"] = jnp.ones(3, bool)
    loss, means = task.loss(Oracle(task, batch["points"]), batch)
    assert loss == 0 and means.keys() == {"loss"}
    loss, _ = task.loss(lambda images: jnp.ones((3, 32, 24, 14)), batch)
    targets, weights = ops.heatmap_targets(batch["points"], batch["visible"], (32, 24), 2, 1.0)
    expected = np.mean(np.square((1 - targets) * weights[:, None, None]))
    assert loss == pytest.approx(float(expected), rel=1e-6)


def known_pose(images):
    """A peak for every keypoint in the middle of the crop."""
    middle = jnp.full((len(images), 14, 2), jnp.array([24.0, 32.0]))
    return ops.heatmap_targets(middle, jnp.ones((len(images), 14)), (32, 24), 2, 1.0)[0]


def test_results_are_in_pixels_of_the_image_itself():
    task = task_of(**{"pose.eval_flip": False})
    image = Image.new("RGB", (200, 100))
    example = task.region_example(image, (40, 20, 100, 80), 0.5)
    batch = {name: array[None] for name, array in example.items()}
    (result,) = task.to_results(jax.device_get(task.predict(known_pose, batch)))
    np.testing.assert_allclose(result.points, np.full((1, 14, 2), [[70, 50]]), atol=1e-4)
    (entry,) = result.to_json(5)["poses"]
    assert entry["category"] == "figure" and len(entry["keypoints"]) == 42
    assert entry["keypoints"][:3] == [70, 50, 1] and entry["score"] == 0.5
    x, y, width, height = entry["bbox"]
    assert (x + width / 2, y + height / 2) == (70, 50) and width / height == pytest.approx(0.75)
    assert json.dumps(result.to_json(5)) and len(result.to_rows(5)) == 14
    assert "14 of 14 keypoints" in result.to_text(5)
    assert result.entries()[0] == ("head", 1.0)
    drawn = task.draw(Image.fromarray(task.shown_image(image, example)), result)
    assert drawn.size == image.size and np.asarray(drawn)[50, 70].any()
    # In the crop, as it is explained.
    seen = result.enlarged(64)
    np.testing.assert_allclose(seen.points[0, 0], [24, 32], atol=1e-4)
    assert result.keypoints((64, 48))[0][2:] == pytest.approx((24, 32), abs=1e-4)
    assert task.draw(Image.fromarray(example["image"]), result.enlarged(480)).size == (384, 512)


def test_of_two_boxes_of_one_object_the_better_is_kept():
    task = task_of(**{"pose.eval_flip": False})
    image = Image.new("RGB", (200, 100))
    boxes = [((40, 20, 100, 80), 0.5), ((39, 20, 101, 80), 0.9), ((120, 20, 180, 80), 0.7)]
    results = []
    for box, score in boxes:
        batch = {k: a[None] for k, a in task.region_example(image, box, score).items()}
        results += task.to_results(jax.device_get(task.predict(known_pose, batch)))
    merged = task.merge(results, (100, 200))
    np.testing.assert_allclose(merged.totals, [0.9, 0.7], rtol=1e-5)
    assert merged.entries() == [("figure", pytest.approx(0.9)), ("figure", pytest.approx(0.7))]
    nothing = task.merge([], (100, 200))
    assert nothing.to_json(5) == {"poses": []} and nothing.to_text(5) == ""
    assert task.draw(image, nothing).size == image.size


def test_images_of_another_size_than_their_annotations_are_refused():
    task = task_of()
    record = prepared(task, figures()).eval[0]
    with pytest.raises(ImageError, match="160x128 pixels .* its annotations are for 161x128"):
        task.eval_example({**record, "size": (128, 161)})
    with Image.open(io.BytesIO(record["image"])) as image:
        assert task.see(image).shape == (64, 48, 3)
    assert task.see_record(record).shape == (64, 48, 3)
    with pytest.raises(ImageError, match="a pose has crops"):
        task.see_mask(Image.new("L", (4, 4)))


def test_crops_of_a_wrong_size_are_refused():
    config = small_config(**{"pose.crop_size": (64, 40)})
    with pytest.raises(UserError, match=r"crop_size=\(64, 40\): .* multiples of 16, .*cluenet"):
        type(task_of()).check_config(config)


@pytest.mark.parametrize(
    "head", [pytest.param("heatmap_deconv", marks=pytest.mark.chaos), "heatmap_mta"]
)
def test_it_learns_with_every_head(head, tmp_path, compiled_programs):
    settings = {"model.head": head, "model.heatmap_fpn.width": None, f"model.{head}.width": 8}
    config = small_config(**settings)
    config.data.train_split, config.data.eval_split = "train[:8]", "test[:3]"
    config.optim.batch_size, config.optim.warmup_epochs = 8, 0.0
    config.train.max_steps, config.train.log_every, config.eval.batch_size = 4, 1, 8
    with programs_kept(compiled_programs):
        metrics = train_and_evaluate(config, str(tmp_path / "run"))
    assert 0 <= metrics["ap"] <= 1 and metrics["count"] >= 3
    records = [json.loads(r) for r in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = [record["step/loss"] for record in records if "step/loss" in record]
    assert len(losses) == 4 and losses[-1] < losses[0]


def test_an_evaluation_takes_boxes_of_a_file(tmp_path):
    dataset = figures(eval_split="test[:3]")
    rows = []
    for index, poses in enumerate(dataset.eval.poses[:2]):
        for x1, y1, x2, y2 in poses.boxes.tolist():
            box = dict(bbox=[x1, y1, x2 - x1, y2 - y1], score=0.75, category_id=1)
            rows.append({"image_id": dataset.eval.image_ids[index], **box})
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(rows))
    checkpoint = save_checkpoint(tmp_path / "run")
    config = small_config(**{"data.eval_split": "test[:3]", "eval.batch_size": 4})
    config.eval.boxes = str(path)
    evaluated = evaluation.evaluate_checkpoint(str(checkpoint), config)
    metrics = evaluated.to_json()
    # The third image has no box, and counts as one whose figures are missed.
    assert metrics["count"] == len(rows) and metrics["pck"] == -1
    assert "images 3" in evaluated.to_text()
