"""Whole runs of dense tasks in processes of their own: killed in mid-epoch, and over many."""

import chex
import numpy as np
import pytest

from cluenet_jax.checkpoints.load import load
from tests.helpers.runs import SIZES, Runner

# Of the last batch of four processes one has no image, of two one has one.
NUM_EVAL_IMAGES = 13
DETECTION_HEAD = dict(
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
# Two epochs; the first step of a run changes nothing.
EPOCHS = (
    "--config.optim.epochs=2",
    "--config.optim.warmup_epochs=0.2",
    "--config.optim.warmup_lr=0",
    "--config.eval.batch_size=8",
    "--config.eval.every=1",
    "--config.checkpoint.every=0.2",
    "--config.train.log_every=1",
)
RECIPES = {
    "segmentation": (
        "--config=configs/digit_scenes.py",
        "--config.model.semantic_fpn.neck_width=8",
        "--config.model.semantic_fpn.width=8",
        "--config.data.train_split=train[:80]",
        f"--config.data.eval_split=test[:{NUM_EVAL_IMAGES}]",
        "--config.augment.scale_ratio=(0.75, 1.5)",
        "--config.optim.batch_size=4",
    ),
    "detection": (
        "--config=configs/digit_scenes_detection.py",
        *(f"--config.model.mask_rcnn.{name}={value}" for name, value in DETECTION_HEAD.items()),
        "--config.data.train_split=train[:400]",
        f"--config.data.eval_split=test[:{NUM_EVAL_IMAGES}]",
        "--config.optim.batch_size=8",
        # Enough for some boxes and masks to be right.
        "--config.optim.peak_lr=5e-3",
    ),
    "pose": (
        "--config=configs/figures_pose.py:cluenet_nano,heatmap_deconv",
        "--config.model.heatmap_deconv.width=8",
        "--config.data.train_split=train[:55]",
        # 13 figures.
        "--config.data.eval_split=test[:9]",
        "--config.optim.batch_size=4",
    ),
}
# What the first lines and the last of a run say.
SAID = {
    "segmentation": ("80 train, 13 eval images", "miou"),
    "detection": ("13 eval images", "mask_ap"),
    "pose": ("80 train, 13 eval images", "pck"),
}
# Of an epoch.
STEPS = {"segmentation": 20, "detection": 50, "pose": 20}


pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module", params=RECIPES)
def task(request):
    return request.param


@pytest.fixture(scope="module")
def runner(task, tmp_path_factory, compiled_programs):
    recipe = (*RECIPES[task], *SIZES, *EPOCHS)
    return Runner(tmp_path_factory.mktemp(task), compiled_programs, recipe)


@pytest.fixture(scope="module")
def undisturbed(task, runner):
    """The path of the last checkpoint of a run that nothing happened to."""
    output = runner.run("undisturbed")
    assert all(part in output for part in SAID[task]), output
    return runner.folder / "undisturbed" / "checkpoints" / str(2 * STEPS[task])


def test_a_run_killed_in_mid_epoch_ends_like_one_never_killed(task, runner, undisturbed):
    """Weights, statistics of BatchNorm, losses, scores: bit for bit."""
    # Steps between saves; the third save begins when the second is done.
    interval = STEPS[task] // 5
    after = runner.kill_and_resume("killed", 3 * interval + 1)
    assert 2 * interval <= after < STEPS[task]
    killed = runner.folder / "killed" / "checkpoints" / undisturbed.name
    ours, theirs = load(str(killed)), load(str(undisturbed))
    assert ("batch_stats" in theirs.variables) == (task != "detection")
    chex.assert_trees_all_equal(ours.variables, theirs.variables)
    assert ours.metadata.metrics == theirs.metadata.metrics
    assert runner.records("killed") == runner.records("undisturbed")


@pytest.mark.parametrize("count", [2, 4])
def test_processes_learn_and_evaluate_like_one(count, task, runner, undisturbed):
    """Every image once; a step from trained weights changes nothing but is recorded alike."""
    flags = f"--config.init.checkpoint={undisturbed}", "--config.train.max_steps=1"
    processes = runner.start_many(count, f"over{count}", *flags)
    try:
        outputs = [process.communicate(timeout=900)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * count, outputs
    runner.run(f"one{count}", *flags)
    names = f"over{count}", f"one{count}"
    ours, theirs = (load(str(runner.folder / name)).metadata.metrics for name in names)
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert ours["count"] == NUM_EVAL_IMAGES
    if task == "detection":
        assert theirs["box_ap"] > 0 and theirs["mask_ap"] > 0
    ours, theirs = (runner.records(name)[0] for name in names)
    assert ours.keys() == theirs.keys()
    assert task != "detection" or theirs["step/mask"] > 0
    np.testing.assert_allclose([*ours.values()], [*theirs.values()], rtol=2e-3)
