"""Evaluation: the mean over all examples, each counted once."""

import jax
import numpy as np
import optax

from cluenet_jax.evaluation import evaluate, make_eval_step
from tests.helpers.linear import INFO, Linear, linear_task, linear_trainer


def test_evaluation_is_the_mean_over_all_examples():
    _, state, _ = linear_trainer()
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    labels = rng.integers(0, 7, 20).astype(np.int32)
    logits = Linear().apply({"params": state.params}, (images / 255 - 0.5) / 0.25)
    order = np.argsort(-np.asarray(logits), axis=1)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    expected = {
        "loss": float(losses.mean()),
        "count": 20,
        **{f"top{k}": np.mean((order[:, :k] == labels[:, None]).any(1)) for k in (1, 3, 5)},
    }
    padding = ((0, 4), (0, 0), (0, 0), (0, 0))
    padded = np.pad(images, padding), np.pad(labels, (0, 4)), np.arange(24) < 20
    batches = [
        dict(zip(("image", "label", "valid"), (a[i : i + 8] for a in padded), strict=True))
        for i in (0, 8, 16)
    ]
    task = linear_task()
    step = jax.jit(make_eval_step(task, Linear()))
    evaluator = evaluate(task, step, state.eval_variables, batches)
    metrics = evaluator.compute()
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5)
    confusion = evaluator.confusion
    assert confusion.shape == (len(INFO.class_names),) * 2 and confusion.sum() == 20
    assert confusion[labels[3], order[3, 0]] >= 1
    np.testing.assert_allclose(confusion.trace() / 20, metrics["top1"])
