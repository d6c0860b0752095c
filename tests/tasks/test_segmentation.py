"""The segmentation task: examples, loss, evaluation at own sizes, results, whole runs."""

import dataclasses
import json
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cluenet_jax import evaluation
from cluenet_jax.checkpoints.load import load
from cluenet_jax.checkpoints.manager import Checkpoints
from cluenet_jax.checkpoints.metadata import Metadata
from cluenet_jax.cli import explain, export, predict, visualize
from cluenet_jax.config import default_config
from cluenet_jax.data import IGNORED, DatasetInfo, decode_pair, load_dataset
from cluenet_jax.errors import UserError
from cluenet_jax.tasks import create_task
from cluenet_jax.tasks.segmentation_result import SegmentationResult
from cluenet_jax.train import sharding
from cluenet_jax.train.finetune import initial_variables
from cluenet_jax.train.loop import train_and_evaluate
from tests.helpers.compilation import programs_kept
from tests.helpers.images import encode
from tests.helpers.models import SMALL_CLUENET, random_images, random_variables

INFO = DatasetInfo("digit_scenes", ("ground", "sea", "sky"), (0.5,) * 3, (0.25,) * 3)


def small_config(**settings):
    """A tiny model on small crops."""
    config = default_config("segmentation")
    config.data.image_size = 32
    config.model.cluenet.update(SMALL_CLUENET)
    config.model.semantic_fpn.neck_width = 8
    config.model.semantic_fpn.width = 8
    config.augment.scale = config.segmentation.eval_scale = (64, 32)
    config.update_from_flattened_dict(settings)
    return config


def scenes():
    return load_dataset("digit_scenes")


class Stripes:
    """Images of several sizes, whose red channel is 100 times the class in the mask."""

    sizes = [(40, 60), (33, 50), (60, 40), (40, 60), (32, 32)]

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        scene = scenes().train[0]
        height, width = self.sizes[index]
        mask = np.zeros((height, width), np.uint8)
        mask[: height // 3], mask[:, width // 2 :] = 1, 2
        image = np.zeros((height, width, 3), np.uint8)
        image[..., 0] = 100 * mask
        mask[0] = IGNORED
        files = {"image": encode(Image.fromarray(image)), "mask": encode(Image.fromarray(mask))}
        mask_format = dataclasses.replace(scene["mask_format"], labels=(0, 1, 2), colors=())
        return {**files, "mask_format": mask_format, "name": f"stripes {index}"}


def test_examples_have_the_promised_form_and_travel_to_workers():
    dataset = scenes()
    task = pickle.loads(pickle.dumps(create_task(small_config(), dataset.info)))
    record = dataset.train[3]
    example = task.train_example(record, np.random.default_rng(0))
    forms = {key: (array.shape, array.dtype) for key, array in example.items()}
    assert forms == {key: (s.shape, s.dtype) for key, s in task.example_spec().items()}
    again = task.train_example(record, np.random.default_rng(0))
    chex.assert_trees_all_equal(example, again)
    evaluated = task.eval_example(record)
    spec = task.eval_spec()
    assert {k: v.dtype for k, v in evaluated.items()} == {k: v.dtype for k, v in spec.items()}
    assert evaluated["image"].shape == (32, 32, 3) and evaluated["size"].tolist() == [64, 64]
    assert evaluated["mask"].shape == (64, 64)


def test_the_shape_of_an_example_is_known_without_reading_its_pixels():
    config = small_config()
    config.segmentation.eval_ratios = (1.0, 0.5)
    task, source = create_task(config, INFO), Stripes()
    shapes = []
    for index in range(len(source)):
        example = task.eval_example(source[index])
        canvas, *views = task.eval_shape(source[index])
        assert example["mask"].shape == canvas
        assert [example[name].shape[:2] for name in ("image", "image1")] == views
        shapes.append((canvas, *views))
    assert shapes[0] == shapes[3] and shapes[0] != shapes[2]


@pytest.mark.parametrize("denominator", ["labeled", "all"])
def test_the_loss_is_a_mean_over_pixels(denominator):
    config = small_config(**{"segmentation.denominator": denominator})
    task = create_task(config, INFO)
    logits = jax.random.normal(jax.random.key(0), (2, 6, 6, 3))
    mask = np.random.default_rng(0).integers(0, 3, (2, 6, 6), dtype=np.uint8)
    mask[0, :3] = IGNORED
    loss, means = task.loss(lambda images: logits, {"image": None, "mask": jnp.asarray(mask)})
    log_p = np.asarray(jax.nn.log_softmax(logits))
    labeled = mask != IGNORED
    own = np.take_along_axis(log_p, np.where(labeled, mask, 0)[..., None], -1)[..., 0]
    count = labeled.sum() if denominator == "labeled" else mask.size
    np.testing.assert_allclose(loss, -own[labeled].sum() / count, rtol=1e-5)
    right = (log_p.argmax(-1) == mask)[labeled].mean()
    np.testing.assert_allclose(means["aacc"][0] / means["aacc"][1], right, rtol=1e-6)


def test_classes_have_weights():
    """As torch's `cross_entropy(weight=...)`: a mean whose denominator is the sum of weights."""
    weights = (0.25, 1.0, 3.0)
    task = create_task(small_config(**{"segmentation.class_weights": weights}), INFO)
    logits = jax.random.normal(jax.random.key(0), (1, 1, 4, 3))
    mask = np.array([[[0, 2, IGNORED, 1]]], np.uint8)
    loss, means = task.loss(lambda images: logits, {"image": None, "mask": jnp.asarray(mask)})
    nll = -np.asarray(jax.nn.log_softmax(logits))[0, 0]
    expected = (0.25 * nll[0, 0] + 3.0 * nll[1, 2] + 1.0 * nll[3, 1]) / 4.25
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(means["loss"][0] / means["loss"][1], expected, rtol=1e-5)


def test_weights_are_one_for_each_class():
    with pytest.raises(UserError, match=r"class_weights=\(1, 1\).* each of the 3 classes"):
        create_task(small_config(**{"segmentation.class_weights": (1, 1)}), INFO)


def test_a_batch_without_labels_has_no_loss():
    task = create_task(small_config(), INFO)
    batch = {"image": None, "mask": jnp.full((2, 6, 6), IGNORED, jnp.uint8)}
    loss, means = task.loss(lambda images: jnp.ones((2, 6, 6, 3)), batch)
    chex.assert_tree_all_finite(jax.tree.map(lambda m: m, means))
    assert loss == 0


def test_the_auxiliary_head_adds_its_weight():
    config = small_config(**{"model.semantic_fpn.neck_width": None})
    config.model.semantic_fpn.width = None
    config.model.head = "upernet"
    task = create_task(config, INFO)
    logits = jax.random.normal(jax.random.key(0), (2, 6, 6, 3))
    coarse = jax.random.normal(jax.random.key(1), (2, 2, 2, 3))
    batch = {"image": None, "mask": jnp.zeros((2, 6, 6), jnp.uint8)}

    def loss(weight: float, second: jax.Array) -> float:
        config.segmentation.auxiliary_weight = weight
        task = create_task(config, INFO)
        return float(task.loss(lambda images, auxiliary: (logits, second), batch)[0])

    alone = loss(0.0, coarse)
    other = float(create_task(small_config(), INFO).loss(lambda images: coarse, batch)[0])
    assert loss(0.4, coarse) == pytest.approx(alone + 0.4 * other, rel=1e-5)
    assert task.name == "segmentation"


def red_logits(images):
    """Logits that name the class of `Stripes` wherever the image is sharp."""
    level = (images[..., 0] * 0.25 + 0.5) * 255 / 100
    return -10 * (level[..., None] - jnp.arange(3.0)) ** 2


def read_all(task, source, mesh):
    """Batches of two images."""
    shapes = evaluation.example_shapes(task, source)
    return evaluation.read_eval_set(task, source, 2, mesh, shapes)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"segmentation.eval_flip": True, "segmentation.eval_ratios": (1.0, 2.0)},
        {"segmentation.slide_crop": 24, "segmentation.slide_stride": 16},
    ],
)
def test_every_image_is_evaluated_at_its_own_size(settings):
    """A model that reads the class off the image is right but for the edges."""
    config = small_config(**settings, **{"segmentation.eval_scale": (64, 40)})
    task, mesh = create_task(config, INFO), sharding.make_mesh()
    batches = list(read_all(task, Stripes(), mesh))
    assert len(batches) > 2 and sum(int(batch["valid"].sum()) for batch in batches) == 5
    evaluator = task.evaluator()
    for batch in batches:
        predictions = jax.jit(lambda batch: task.predict(red_logits, batch))(batch)
        truth = {"valid": batch["valid"]}
        evaluator.add(jax.device_get(predictions), jax.device_get(truth))
    labeled = sum((height - 1) * width for height, width in Stripes.sizes)
    assert evaluator.confusion.sum() == labeled, "every labeled pixel of every image once"
    assert evaluator.compute()["count"] == 5 and evaluator.compute()["miou"] > 0.9


def test_results_say_the_same_in_every_form():
    classes = np.array([[0, 0, 2], [0, 2, 2]], np.uint8)
    result = SegmentationResult(classes, INFO)
    assert result.entries() == [("ground", 0.5), ("sky", 0.5)]
    assert result.to_json(1) == {"areas": {"ground": 0.5}}
    mask = result.images()["_mask"]
    np.testing.assert_array_equal(np.asarray(mask), classes)
    colors = np.asarray(INFO.palette)[classes]
    np.testing.assert_array_equal(np.asarray(mask.convert("RGB")), colors)
    task = create_task(small_config(), INFO)
    drawn = task.draw(Image.new("RGB", (6, 4), "white"), result)
    assert drawn.size == (3, 2)
    np.testing.assert_allclose(np.asarray(drawn)[0, 0], (colors[0, 0] + 255) / 2, atol=1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, compiled_programs):
    """An undisturbed run, and one that ends and resumes in the middle of an epoch."""
    folder = tmp_path_factory.mktemp("segmentation")
    with programs_kept(compiled_programs):
        train_twice(folder)
    return folder


def train_twice(folder):
    config = small_config()
    config.data.train_split, config.data.eval_split = "train", "test[:6]"
    config.optim.batch_size = config.eval.batch_size = 4
    config.optim.peak_lr, config.train.log_every = 3e-3, 1
    config.checkpoint.keep_latest = 5
    config.train.max_steps = 8
    train_and_evaluate(config, str(folder / "undisturbed"))
    config.train.max_steps = 3
    train_and_evaluate(config, str(folder / "resumed"))
    config.train.max_steps = 8
    train_and_evaluate(config, str(folder / "resumed"))


def test_a_run_resumes_bit_for_bit(runs):
    ours, theirs = (load(str(runs / name / "checkpoints/8")) for name in ("resumed", "undisturbed"))
    chex.assert_trees_all_equal(ours.variables, theirs.variables)
    counts = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(ours.variables["batch_stats"])
        if "num_batches" in str(path)
    ]
    assert counts and all(int(count) == 8 for count in counts)
    assert ours.metadata.best_metric == "miou" and ours.metadata.metrics["count"] == 6


def test_a_checkpoint_predicts_masks_and_is_exported(runs, tmp_path):
    image = tmp_path / "scene.png"
    image.write_bytes(scenes().eval[0]["image"])
    checkpoint = str(runs / "undisturbed")
    assert (
        predict.main([f"--checkpoint={checkpoint}", f"--out={tmp_path / 'out'}", str(image)]) == 0
    )
    with Image.open(tmp_path / "out/scene_mask.png") as mask:
        assert mask.mode == "P" and mask.size == (64, 64) and np.asarray(mask).max() < 11
    with Image.open(tmp_path / "out/scene.png") as drawn:
        assert drawn.size == (64, 64)
    export.main([checkpoint, str(tmp_path / "exported")])
    program = jax.export.deserialize(
        bytearray((tmp_path / "exported/model.stablehlo").read_bytes())
    )
    trained = load(checkpoint)
    pixels = trained.preprocessing(Image.open(image))
    # An image as large as the model sees it is not resized.
    example = trained.task.unlabeled_example(Image.fromarray(pixels))
    (result,) = trained.predict([example], batch_size=1)
    np.testing.assert_array_equal(program.call(pixels[None])["mask"][0], result.classes)


def test_predictions_are_those_of_the_evaluation_at_every_size():
    config = small_config(**{"segmentation.eval_scale": (64, 40)})
    config.segmentation.eval_ratios, config.segmentation.eval_flip = (1.0, 2.0), True
    task, mesh = create_task(config, INFO), sharding.make_mesh()
    evaluator, source = task.evaluator(), Stripes()
    for batch in read_all(task, source, mesh):
        evaluator.add(jax.device_get(task.predict(red_logits, batch)), {"valid": batch["valid"]})
    confusion = np.zeros((3, 3), int)
    for index in range(len(source)):
        image, mask = decode_pair(source[index])
        example = task.unlabeled_example(Image.fromarray(image))
        batch = {name: array[None] for name, array in example.items()}
        (result,) = task.to_results(jax.device_get(task.predict(red_logits, batch)))
        assert result.classes.shape == mask.shape == source.sizes[index]
        labeled = mask != IGNORED
        np.add.at(confusion, (mask[labeled], result.classes[labeled]), 1)
    np.testing.assert_array_equal(evaluator.confusion, confusion)


def test_its_clusters_are_compared_with_masks_and_shown_beside_the_segments(runs, tmp_path, capsys):
    checkpoint = f"--checkpoint={runs / 'undisturbed'}"
    numbers = tmp_path / "numbers.json"
    explain.main([checkpoint, "--num_images=2", "--regions=2", f"--json={numbers}"])
    assert "Clusters against the masks" in capsys.readouterr().out
    table = json.loads(numbers.read_text())["masks"]
    stages = [
        f"stage {stage}{rival}" for stage in range(1, 5) for rival in ("", ", grid", ", SLIC")
    ]
    assert list(table) == stages
    assert 0 <= table["stage 1"]["asa"]["low"] <= table["stage 1"]["asa"]["mean"] <= 1
    flags = ["--num_images=2", "--report", "--num_scored=0", "--regions=2", f"--out={tmp_path}"]
    assert visualize.main([checkpoint, *flags]) == 0
    report = (tmp_path / "report.html").read_text()
    assert "stage 4, SLIC" in report and "decision, K = 2" in report
    assert report.count("<figcaption>answer") == 2


def test_a_checkpoint_is_evaluated_as_in_its_run(runs):
    trained = load(str(runs / "undisturbed/checkpoints/8"))
    found = evaluation.evaluate_checkpoint(str(runs / "undisturbed/checkpoints/8"))
    assert found.evaluator.compute()["miou"] == pytest.approx(trained.metadata.metrics["miou"])


def test_a_classifiers_backbone_is_taken(tmp_path, caplog):
    """Levels' norms, which a classifier lacks, stay as they are."""
    caplog.set_level("INFO")
    config = default_config()
    config.data.name, config.model.cluenet = "digits", small_config().model.cluenet
    info = load_dataset("digits").info
    model = create_task(config, info).build_model()
    theirs = random_variables(model, random_images(1, 32, 32, 3))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(Metadata.of_run(config, info, "top1"), variables=theirs)
    config = small_config(**{"init.backbone": str(tmp_path)})
    images = random_images(1, 32, 32, 3)
    fresh = random_variables(create_task(config, INFO).build_model(), images)
    place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    taken = initial_variables(config, fresh, place)
    ours, backbone = taken["params"]["backbone"], theirs["params"]["backbone"]
    norms = {f"stage{i}_norm" for i in (1, 2, 3, 4)}
    assert ours.keys() - backbone.keys() == norms
    chex.assert_trees_all_equal({name: ours[name] for name in backbone}, backbone)
    chex.assert_trees_all_equal(taken["batch_stats"], fresh["batch_stats"])
    assert "backbone/stage1_norm/scale" in caplog.text
    config.model.cluenet.depths = (1, 2, 1, 1)
    deeper = random_variables(create_task(config, INFO).build_model(), images)
    with pytest.raises(UserError, match="differs from it in .*stage2"):
        initial_variables(config, deeper, place)


def test_a_dataset_of_another_task_is_refused():
    config = small_config()
    config.data.name = "digits"
    with pytest.raises(UserError, match="digits' is for classification"):
        train_and_evaluate(config, "/nowhere")
