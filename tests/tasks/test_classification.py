"""The classification task: examples, targets, loss, results."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cluenet_jax.config import default_config
from cluenet_jax.errors import UserError
from cluenet_jax.tasks.classification import Classification, ClassificationResult
from tests.helpers.images import ImageSource
from tests.helpers.linear import linear_batch, linear_task


def test_examples_have_the_promised_form_and_travel_to_workers():
    config = default_config()
    config.augment.crop_area = (0.2, 1.0)
    config.augment.rand_augment = (9.0, 0.5)
    task = pickle.loads(pickle.dumps(linear_task(config)))
    record = ImageSource(3, side=20)[1]
    for example in (
        task.train_example(record, np.random.default_rng(0)),
        task.eval_example(record),
    ):
        assert example["image"].shape == (8, 8, 8 // 8 * 3) and example["image"].dtype == np.uint8
        assert example["label"] == 1 and example["label"].dtype == np.int32
        forms = {key: (array.shape, array.dtype) for key, array in example.items()}
        assert forms == {key: (s.shape, s.dtype) for key, s in task.example_spec().items()}


def test_smoothed_targets_and_their_loss():
    config = default_config()
    config.classification.label_smoothing = 0.3
    task = linear_task(config)
    batch = task.augment(jax.random.key(0), jax.tree.map(jnp.asarray, linear_batch()))
    np.testing.assert_allclose(batch["target"].sum(1), 1, rtol=1e-6)
    logits = jax.random.normal(jax.random.key(1), (8, 7))
    loss, means = task.loss(lambda images: logits, batch)
    log_p = np.asarray(jax.nn.log_softmax(logits))
    own = log_p[np.arange(8), batch["label"]]
    expected = -(0.7 * own + 0.3 / 7 * log_p.sum(1))
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(means["loss"][0], expected.sum(), rtol=1e-5)
    right = (log_p.argmax(1) == np.asarray(batch["label"])).sum()
    assert float(means["top1"][0]) == right and float(means["top1"][1]) == 8


def test_scores_are_probabilities_of_targets():
    logits = jnp.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    task = linear_task()
    odds = jax.nn.softmax(logits)
    scores = task.score(lambda images: logits, jnp.zeros((2, 8, 8, 3)), jnp.array([2, 1]))
    np.testing.assert_allclose(scores, [odds[0, 2], odds[1, 1]], rtol=1e-6)
    np.testing.assert_array_equal(task.best_targets(lambda images: logits, None), [0, 1])


def test_results_say_the_same_in_every_form():
    result = ClassificationResult(np.array([0.1, 0.7, 0.2], np.float32), ("a", "b", "c"))
    assert [name for name, _ in result.entries()] == ["b", "c", "a"]
    assert result.to_json(1) == {"predictions": [{"class": "b", "probability": 0.7}]}
    assert result.to_rows(2)[1] == {"rank": 2, "class": "c", "probability": 0.2}
    assert result.to_text(1) == "   70.00%  b"
    drawn = linear_task().draw(Image.new("RGB", (8, 8), "red"), result)
    assert drawn.height > 8 and drawn.getpixel((0, 0)) == (255, 0, 0)


def test_the_number_of_classes_comes_from_the_weights():
    weights = {"head.weight": np.zeros((3, 8))}
    info = Classification.info_of_weights(weights, "cifar10", None)
    assert info.class_names == ("0", "1", "2") and info.mean[0] == 0.4914
    with pytest.raises(UserError, match="2 class names for a model of 3 classes"):
        Classification.info_of_weights(weights, "cifar10", ["a", "b"])
    with pytest.raises(UserError, match="no tensor head.weight"):
        Classification.info_of_weights({}, "cifar10", None)


def test_folders_name_the_truth():
    task = linear_task()
    assert task.target_of_path("/x/b/1.png") == "b" and task.target_of_path("/x/z/1.png") is None
    assert task.target_of_record({"label": 3}) == "d"
