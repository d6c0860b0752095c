"""Whole runs of detection in processes of their own: killed in mid-epoch, and over many."""

import chex
import numpy as np
import pytest

from cluenet_jax.checkpoints.load import load
from tests.helpers.runs import SIZES, Runner

# 8 at a time: of the last batch of four processes one has no image, of two one has one.
NUM_EVAL_IMAGES = 13
STEPS_OF_EPOCH, STEPS = 50, 100
HEAD = dict(
    neck_width=8,
    rpn_width=8,
    box_width=16,
    mask_width=8,
    rpn_samples=16,
    roi_samples=16,
    train_candidates=50,
    train_proposals=16,
    eval_candidates=20,
    eval_proposals=8,
    max_detections=4,
)
RECIPE = (
    "--config=configs/digit_scenes_detection.py",
    *SIZES,
    *(f"--config.model.mask_rcnn.{name}={value}" for name, value in HEAD.items()),
    "--config.data.train_split=train[:400]",
    f"--config.data.eval_split=test[:{NUM_EVAL_IMAGES}]",
    "--config.optim.batch_size=8",
    # Enough for some boxes and masks to be right.
    "--config.optim.peak_lr=5e-3",
    "--config.optim.epochs=2",
    "--config.optim.warmup_epochs=0.2",
    # The first step changes nothing.
    "--config.optim.warmup_lr=0",
    "--config.eval.batch_size=8",
    "--config.eval.every=1",
    "--config.checkpoint.every=0.2",
    "--config.train.log_every=1",
)


@pytest.fixture(scope="module")
def runner(tmp_path_factory, compiled_programs):
    return Runner(tmp_path_factory.mktemp("detection"), compiled_programs, RECIPE)


@pytest.fixture(scope="module")
def undisturbed(runner):
    """The path of the last checkpoint of a run that nothing happened to."""
    output = runner.run("undisturbed")
    assert f"{NUM_EVAL_IMAGES} eval images" in output and "mask_ap" in output
    return runner.folder / "undisturbed" / "checkpoints" / str(STEPS)


def test_a_run_killed_in_mid_epoch_ends_like_one_never_killed(runner, undisturbed):
    """Weights, losses, scores: bit for bit."""
    # The save of step 30 begins when that of step 20 is done.
    after = runner.kill_and_resume("killed", 31)
    assert 20 <= after < STEPS_OF_EPOCH
    ours, theirs = load(str(runner.folder / f"killed/checkpoints/{STEPS}")), load(str(undisturbed))
    chex.assert_trees_all_equal(ours.variables, theirs.variables)
    assert ours.metadata.metrics == theirs.metadata.metrics
    assert runner.records("killed") == runner.records("undisturbed")


def one_step_of(checkpoint):
    """Flags of a run that starts from a checkpoint and ends after a step that changes nothing."""
    return f"--config.init.checkpoint={checkpoint}", "--config.train.max_steps=1"


def assert_evaluated_like_one(runner, count, undisturbed):
    workdir = f"over{count}"
    processes = runner.start_many(count, workdir, *one_step_of(undisturbed))
    try:
        outputs = [process.communicate(timeout=900)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * count, outputs
    ours = load(str(runner.folder / workdir)).metadata.metrics
    theirs = load(str(undisturbed)).metadata.metrics
    assert ours["count"] == NUM_EVAL_IMAGES, "every image of the evaluation once"
    assert theirs["box_ap"] > 0 and theirs["mask_ap"] > 0
    assert ours == pytest.approx(theirs, abs=1e-6)


@pytest.mark.chaos
def test_two_processes_evaluate_every_image_once(runner, undisturbed):
    assert_evaluated_like_one(runner, 2, undisturbed)


@pytest.mark.chaos
def test_four_processes_learn_and_evaluate_like_one(runner, undisturbed):
    assert_evaluated_like_one(runner, 4, undisturbed)
    runner.run("over1", *one_step_of(undisturbed))
    ours, theirs = (runner.records(name)[0] for name in ("over4", "over1"))
    assert ours.keys() == theirs.keys() and theirs["step/mask"] > 0
    np.testing.assert_allclose([*ours.values()], [*theirs.values()], rtol=2e-3)
