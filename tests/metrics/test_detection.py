"""Metrics of detection: equal to pycocotools' own path by files; slots, scales, order."""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cluenet_jax.data import encode_truth
from cluenet_jax.data.instances import Instances
from cluenet_jax.data.rle import encode_bitmap
from cluenet_jax.metrics.coco import KINDS, METRICS
from cluenet_jax.metrics.detection import DetectionEvaluator
from cluenet_jax.metrics.masks import paste_mask

NAMES = ("cat", "dog", "owl", "none")
SLOTS = 12


def ellipse(box, size):
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    x1, y1, x2, y2 = box
    return ((2 * x - x1 - x2) / (x2 - x1)) ** 2 + ((2 * y - y1 - y2) / (y2 - y1)) ** 2 < 1


def scene(seed):
    """A record without its image: up to five ellipses, now and then a crowd."""
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(100, 260, 2).tolist())
    rows = []
    for _ in range(rng.integers(0, 6)):
        corner = rng.uniform(0, 0.6, 2) * size[::-1]
        # With two decimals, as in COCO's files.
        box = np.round([*corner, *(corner + rng.uniform(8, 0.4 * min(size), 2))], 2)
        mask = encode_bitmap(ellipse(box, size))
        area = float(coco_mask.area(mask))
        rows.append((box, int(rng.integers(3)), area, rng.random() < 0.15, mask))
    instances = Instances.of_rows(rows)
    return {"name": "scene", "image_id": 100 - seed, "size": size, "instances": instances}


def detect(record, seed, resized):
    """Moved truths and nonsense, in slots; scores with ties."""
    rng = np.random.default_rng(seed)
    instances, size = record["instances"], record["size"]
    boxes = instances.boxes + rng.normal(0, 2, (len(instances), 4))
    noise = rng.uniform(0, 0.5, (4, 4)) + [0, 0, 0.5, 0.5]
    boxes = np.concatenate([boxes, noise * (*size[::-1], *size[::-1])])
    labels = np.concatenate([instances.labels, rng.integers(0, 3, 4)])
    scores = np.round(
        np.concatenate([rng.uniform(0.3, 1, len(instances)), rng.uniform(0, 1, 4)]), 1
    )
    y, x = np.mgrid[:28, :28] / 13.5 - 1
    logits = 8 * (1 - x**2 - y**2) + rng.normal(0, 1, (len(boxes), 28, 28))
    slots = rng.permutation(SLOTS)[: len(boxes)]
    filled = {
        "boxes": np.full((SLOTS, 4), 50.0, np.float32),
        "scores": np.ones(SLOTS, np.float32),
        "labels": np.zeros(SLOTS, np.int32),
        "mask_logits": np.ones((SLOTS, 28, 28), np.float32),
        "valid": np.zeros(SLOTS, bool),
    }
    factors = np.divide(resized, size)[[1, 0, 1, 0]]
    values = (boxes * factors, scores, labels, logits, True)
    for array, value in zip(filled.values(), values, strict=True):
        array[slots] = value
    return filled


def add(evaluator, records, predictions, resized, masks=True):
    """As one batch, with an image at the end that only fills it up."""
    stacked = {
        key: np.stack([*(p[key] for p in predictions), predictions[0][key]])
        for key in predictions[0]
    }
    truths = [encode_truth(record, masks) for record in records]
    batch = {
        "truth": np.stack([*truths, np.zeros_like(truths[0])]),
        "size": np.array([*resized, (0, 0)], np.int32),
        "valid": np.array([True] * len(records) + [False]),
    }
    evaluator.add(stacked, batch)


@pytest.fixture(scope="module")
def scenes():
    records = [scene(seed) for seed in range(24)]
    resized = [tuple(int(1.7 * side + 0.5) for side in record["size"]) for record in records]
    predictions = [detect(*args) for args in zip(records, range(24), resized, strict=True)]
    return records, predictions, resized


@pytest.fixture(scope="module")
def evaluator(scenes):
    evaluator = DetectionEvaluator(NAMES)
    add(evaluator, *scenes)
    return evaluator


def coco_file(records):
    """What the file of these records' annotations would hold."""
    annotations = []
    for record in records:
        instances = record["instances"]
        for i, (x1, y1, x2, y2) in enumerate(instances.boxes):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": record["image_id"],
                    "category_id": int(instances.labels[i]) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": instances.areas[i],
                    "iscrowd": int(instances.crowd[i]),
                    "segmentation": instances.masks[i],
                }
            )
    images = [{"id": r["image_id"], "height": r["size"][0], "width": r["size"][1]} for r in records]
    categories = [{"id": i, "name": name} for i, name in enumerate(NAMES, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def results_file(kind, scenes):
    """COCO's form of results, in the order of the images' ids."""
    results = []
    ordered = sorted(zip(*scenes, strict=True), key=lambda scene: scene[0]["image_id"])
    for record, prediction, resized in ordered:
        factors = np.divide(resized, record["size"]).astype(np.float32)[[1, 0, 1, 0]]
        for slot in np.flatnonzero(prediction["valid"]):
            box = prediction["boxes"][slot] / factors
            x1, y1, x2, y2 = box.astype(np.float64).tolist()
            fields = {"bbox": [x1, y1, x2 - x1, y2 - y1]}
            if kind == "mask":
                logits = prediction["mask_logits"][slot].astype(np.float64)
                mask = paste_mask(1 / (1 + np.exp(-logits)), box, record["size"]) >= 0.5
                fields = {"segmentation": encode_bitmap(mask)}
            results.append(
                {
                    "image_id": record["image_id"],
                    "category_id": int(prediction["labels"][slot]) + 1,
                    "score": float(prediction["scores"][slot]),
                    **fields,
                }
            )
    return results


@pytest.mark.parametrize("kind", KINDS)
def test_the_metrics_are_pycocotools(scenes, evaluator, kind):
    with contextlib.redirect_stdout(io.StringIO()):
        truths = COCO()
        truths.dataset = coco_file(scenes[0])
        truths.createIndex()
        reference = COCOeval(truths, truths.loadRes(results_file(kind, scenes)), KINDS[kind])
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    ours = evaluator.compute()
    numbers = [ours[f"{kind}_{name}"] for name in METRICS]
    np.testing.assert_allclose(numbers, reference.stats, rtol=1e-12)
    assert len(numbers) == 12 and 0.1 < numbers[0] < 0.9 and numbers[1] > numbers[2] > 0
    # Sizes that the scenes have.
    assert ours[f"{kind}_ap_small"] > 0 and ours[f"{kind}_ap_medium"] > 0
    precision = reference.eval["precision"][:, :, :, 0, 2]
    class_ap = evaluator.scores()[kind].class_ap
    np.testing.assert_allclose(class_ap[:3], precision.mean((0, 1))[:3], rtol=1e-12)
    assert np.isnan(class_ap[3])
    np.testing.assert_allclose(class_ap[:3].mean(), numbers[0], rtol=1e-12)


def test_the_scenes_have_crowds_and_empty_images(scenes):
    crowds = [record["instances"].crowd for record in scenes[0]]
    assert np.concatenate(crowds).sum() >= 3 and any(not crowd.size for crowd in crowds)


def test_the_order_and_the_batches_do_not_matter(scenes, evaluator):
    apart = DetectionEvaluator(NAMES, num_threads=1)
    for indices in np.random.default_rng(0).permutation(24).reshape(8, 3):
        add(apart, *([part[i] for i in indices] for part in scenes))
    assert apart.to_json() == evaluator.to_json()


def test_boxes_alone(scenes, evaluator):
    records, predictions, resized = scenes
    bare = [{**record, "instances": without_masks(record["instances"])} for record in records]
    alone = DetectionEvaluator(NAMES, masks=False)
    slots = [{k: v for k, v in p.items() if k != "mask_logits"} for p in predictions]
    add(alone, bare, slots, resized, masks=False)
    both = evaluator.compute()
    expected = {key: value for key, value in both.items() if not key.startswith("mask")}
    assert alone.compute() == expected and len(expected) == 13 and len(both) == 25


def without_masks(instances):
    arrays = (instances.boxes, instances.labels, instances.areas, instances.crowd)
    return Instances(*arrays, (None,) * len(instances))


def perfect(record, resized):
    """Its truths as detections."""
    slots = detect(record, 0, resized)
    count = len(record["instances"])
    factors = np.divide(resized, record["size"])[[1, 0, 1, 0]]
    slots["boxes"][:count] = record["instances"].boxes * factors
    slots["labels"][:count] = record["instances"].labels
    slots["valid"] = np.arange(SLOTS) < count
    slots["scores"] = np.linspace(1, 0.5, SLOTS).astype(np.float32)
    return slots


def test_the_truths_as_detections_are_perfect(scenes):
    """Whatever the image was resized to, each axis by a factor of its own."""
    records = scenes[0]
    for factor in (0.31, 2.0):
        resized = [(int(h * factor), int(w * factor) + 7) for h, w in (r["size"] for r in records)]
        evaluator = DetectionEvaluator(NAMES, masks=False)
        add(evaluator, records, [*map(perfect, records, resized)], resized, masks=False)
        metrics = evaluator.compute()
        assert metrics["box_ap"] == metrics["box_ar100"] == 1 and metrics["box_ar1"] < 1
        assert metrics["box_ap_large"] == -1 and metrics["count"] == 24


def test_numbers_that_are_not_finite_are_left_out(scenes):
    record = scenes[0][0]
    results = []
    for value in (None, np.nan, np.inf):
        slots = perfect(record, record["size"])
        # Detections of nothing, which would come first.
        slots["boxes"][-2:], slots["scores"][-2:] = (0, 0, 9, 9), 2
        if value is not None:
            slots["valid"][-2:] = True
            slots["boxes"][-2, 1], slots["scores"][-1] = value, value
        evaluator = DetectionEvaluator(NAMES)
        add(evaluator, [record], [slots], [record["size"]])
        results.append(evaluator.compute())
    assert results[0] == results[1] == results[2]


def test_images_count_once(scenes):
    records, predictions, resized = ([part[0]] for part in scenes)
    evaluator = DetectionEvaluator(NAMES)
    add(evaluator, records, predictions, resized)
    with pytest.raises(ValueError, match="Image 100 is added twice; each counts once"):
        add(evaluator, records, predictions, resized)


def test_metrics_follow_what_is_added(scenes):
    evaluator = DetectionEvaluator(NAMES)
    metrics = []
    for part in (slice(0, 12), slice(12, 24)):
        add(evaluator, *(values[part] for values in scenes))
        metrics.append(evaluator.compute())
    assert [m["count"] for m in metrics] == [12, 24]
    assert metrics[0]["mask_ap"] != metrics[1]["mask_ap"]


def test_a_set_without_truths_has_no_metrics(scenes):
    _, predictions, _ = scenes
    records = [{**scene(1), "instances": Instances.of_rows([])}]
    evaluator = DetectionEvaluator(NAMES)
    add(evaluator, records, predictions[:1], [(90, 90)])
    metrics = evaluator.compute()
    assert metrics.pop("count") == 1 and set(metrics.values()) == {-1}
    assert evaluator.to_text().count("none") == 2 * (12 + 4) + 1


def test_reports(scenes, evaluator, capsys):
    fresh = DetectionEvaluator(NAMES)
    add(fresh, *scenes)
    details = json.loads(json.dumps(fresh.to_json(), allow_nan=False))
    assert capsys.readouterr().out == "", "COCOeval's prints"
    assert details["class_mask_ap"]["none"] is None and details["class_box_ap"]["cat"] > 0
    lines = fresh.to_text().splitlines()
    assert lines[0] == "images 24" and lines[1].split() == ["metric", "box", "mask"]
    assert lines[2].split()[0] == "ap" and len(lines) == 2 + 12 + 1 + 4
    assert lines[-1].split() == ["none", "none", "none"]
    assert float(lines[2].split()[1].rstrip("%")) == round(100 * details["box_ap"], 2)
