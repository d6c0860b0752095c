"""Whole runs of segmentation in processes of their own: killed in mid-epoch and started again."""

import chex
import pytest

from cluenet_jax.checkpoints.load import load
from tests.helpers.runs import SIZES, Runner

STEPS_OF_EPOCH, STEPS = 20, 40
RECIPE = (
    "--config=configs/digit_scenes.py",
    *SIZES,
    "--config.model.semantic_fpn.neck_width=8",
    "--config.model.semantic_fpn.width=8",
    "--config.data.train_split=train[:80]",
    "--config.data.eval_split=test[:4]",
    "--config.augment.scale_ratio=(0.75, 1.5)",
    "--config.optim.batch_size=4",
    "--config.optim.epochs=2",
    "--config.optim.warmup_epochs=1",
    "--config.eval.batch_size=4",
    "--config.eval.every=1",
    "--config.checkpoint.every=0.2",
    "--config.train.log_every=1",
)


@pytest.fixture(scope="module")
def runner(tmp_path_factory, compiled_programs):
    return Runner(tmp_path_factory.mktemp("segmentation"), compiled_programs, RECIPE)


def test_a_run_killed_in_mid_epoch_ends_like_one_never_killed(runner):
    """Weights, statistics of BatchNorm, losses, scores: bit for bit."""
    assert "miou" in runner.run("undisturbed")
    # The save of step 12 begins when that of step 8 is done.
    after = runner.kill_and_resume("killed", 13)
    assert 8 <= after < STEPS_OF_EPOCH
    ours, theirs = (
        load(str(runner.folder / run / "checkpoints" / str(STEPS)))
        for run in ("killed", "undisturbed")
    )
    assert "batch_stats" in theirs.variables
    chex.assert_trees_all_equal(ours.variables, theirs.variables)
    assert runner.records("killed") == runner.records("undisturbed")
