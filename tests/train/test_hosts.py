"""Runs over many processes: like one process, and when one of them is preempted or lost."""

import signal

import chex
import numpy as np
import pytest

from cluenet_jax.checkpoints.load import load
from tests.helpers.runs import STEPS


def exits(processes) -> list[tuple[int, str]]:
    """Exit code and output of each."""
    outputs = [process.communicate(timeout=900)[0] for process in processes]
    return [(p.returncode, output) for p, output in zip(processes, outputs, strict=True)]


def assert_like_undisturbed(runner, workdir):
    ours, theirs = runner.records(workdir), runner.records("undisturbed")
    assert [r.keys() for r in ours] == [r.keys() for r in theirs]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose([*a.values()], [*b.values()], rtol=2e-3, atol=1e-6)
    metadata = load(str(runner.folder / workdir / f"checkpoints/{STEPS}")).metadata
    assert metadata.metrics["count"] == 14, "every image of the evaluation once"


def test_two_processes_end_together_and_one_resumes(runner, undisturbed):
    """Ctrl-C (a SIGTERM then) to one saves one step on both; SIGKILL to one ends the other."""
    processes = runner.start_many(2, "two")
    runner.wait_for_step("two", processes, 6)
    processes[1].send_signal(signal.SIGINT)
    found = exits(processes)
    assert [code for code, _ in found] == [143, 143], found
    steps = {int(output.split("after step ")[1].split(",")[0]) for _, output in found}
    assert len(steps) == 1, "both agree on a step"
    (step,) = steps

    # Changes no batch; and no save when the other is lost, which JAX itself would end.
    flags = ("--config.data.cache=True", "--config.checkpoint.every=9")
    processes = runner.start_many(2, "two", *flags)
    runner.wait_for_step("two", processes, max(step + 2, 12))
    processes[1].kill()
    (code, output), _ = exits(processes)
    assert code == 75 and "process 0 of 2 stops here" in output, output
    assert f"Resuming after step {step} " in output and "same command on all hosts" in output

    assert "Resuming after step" in runner.run("two")
    assert_like_undisturbed(runner, "two")


@pytest.mark.chaos
def test_four_processes_run_like_one(runner, undisturbed):
    found = exits(runner.start_many(4, "four"))
    assert [code for code, _ in found] == [0] * 4, found
    assert_like_undisturbed(runner, "four")


@pytest.mark.chaos
def test_state_moves_between_any_numbers_of_processes_and_devices(runner, undisturbed):
    """Sharded over four processes, one copy, sharded over eight devices, copies in two."""
    sharded = "--config.train.shard_params=True"
    steps = [f"--config.train.max_steps={step}" for step in (5, 10, 15)]
    assert [code for code, _ in exits(runner.start_many(4, "moving", sharded, steps[0]))] == [0] * 4
    assert "Resuming after step 5 " in runner.run("moving", steps[1])
    assert "Resuming after step 10 " in runner.run("moving", steps[2], sharded, devices=8)
    assert [code for code, _ in exits(runner.start_many(2, "moving"))] == [0, 0]
    ours, theirs = (
        [r["step/loss"] for r in runner.records(name) if "step/loss" in r]
        for name in ("moving", "undisturbed")
    )
    np.testing.assert_allclose(ours, theirs, rtol=2e-3)


@pytest.mark.chaos
def test_the_loss_of_the_coordinating_process_ends_the_others(runner, undisturbed):
    processes = runner.start_many(2, "headless")
    runner.wait_for_step("headless", processes, 5)
    processes[0].kill()
    _, (code, output) = exits(processes)
    # Either we come first, or JAX's own coordination service, which aborts.
    assert code == 75 or (code == -6 and "another task died" in output), output
    assert "Resuming after step" in runner.run("headless")
    ours, theirs = (
        load(str(runner.folder / name / "checkpoints" / str(STEPS))).variables
        for name in ("headless", "undisturbed")
    )
    chex.assert_trees_all_close(ours, theirs, rtol=0.02, atol=2e-3)
