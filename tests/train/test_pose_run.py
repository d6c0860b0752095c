"""Whole runs of pose estimation in processes of their own: killed in mid-epoch, and over many."""

import chex
import pytest

from cluenet_jax.checkpoints.load import load
from tests.helpers.runs import SIZES, Runner

STEPS_OF_EPOCH, STEPS = 20, 40
RECIPE = (
    "--config=configs/figures_pose.py:cluenet_nano,heatmap_deconv",
    *SIZES,
    "--config.model.heatmap_deconv.width=8",
    "--config.data.train_split=train[:55]",
    # 13 figures: of the last batch of four processes one has none.
    "--config.data.eval_split=test[:9]",
    "--config.optim.batch_size=4",
    "--config.optim.epochs=2",
    "--config.optim.warmup_epochs=0.2",
    # The first step of a run changes nothing.
    "--config.optim.warmup_lr=0",
    "--config.eval.batch_size=8",
    "--config.eval.every=1",
    "--config.checkpoint.every=0.2",
    "--config.train.log_every=1",
)


@pytest.fixture(scope="module")
def runner(tmp_path_factory, compiled_programs):
    return Runner(tmp_path_factory.mktemp("pose"), compiled_programs, RECIPE)


@pytest.fixture(scope="module")
def undisturbed(runner):
    """The path of the last checkpoint of a run that nothing happened to."""
    output = runner.run("undisturbed")
    assert "80 train, 13 eval images" in output and "pck" in output
    return runner.folder / "undisturbed" / "checkpoints" / str(STEPS)


@pytest.mark.chaos
def test_a_run_killed_in_mid_epoch_ends_like_one_never_killed(runner, undisturbed):
    """Weights, statistics of BatchNorm, losses, scores: bit for bit."""
    # The save of step 12 begins when that of step 8 is done.
    after = runner.kill_and_resume("killed", 13)
    assert 8 <= after < STEPS_OF_EPOCH
    ours, theirs = load(str(runner.folder / f"killed/checkpoints/{STEPS}")), load(str(undisturbed))
    assert "batch_stats" in theirs.variables
    chex.assert_trees_all_equal(ours.variables, theirs.variables)
    assert ours.metadata.metrics == theirs.metadata.metrics
    assert runner.records("killed") == runner.records("undisturbed")


@pytest.mark.chaos
def test_four_processes_evaluate_every_figure_once(runner, undisturbed):
    flags = f"--config.init.checkpoint={undisturbed}", "--config.train.max_steps=1"
    processes = runner.start_many(4, "over4", *flags)
    try:
        outputs = [process.communicate(timeout=900)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * 4, outputs
    runner.run("over1", *flags)
    ours, theirs = (load(str(runner.folder / name)).metadata.metrics for name in ("over4", "over1"))
    assert ours["count"] == 13 and ours == pytest.approx(theirs, abs=1e-6)
