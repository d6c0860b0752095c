"""Runs that are preempted, killed or corrupted: nothing is lost, and messages say what to do."""

import contextlib
import os
import shutil
import signal
import subprocess

import chex
import numpy as np
import pytest
from etils import epath

import configs.image_folder
from cluenet_jax.checkpoints.load import load
from cluenet_jax.checkpoints.lock import lock_workdir
from cluenet_jax.errors import UserError
from cluenet_jax.train.loop import train_and_evaluate
from cluenet_jax.train.metric_writer import read_metrics
from tests.helpers.images import image_folder
from tests.helpers.runs import STEPS


def equal_to_undisturbed(runner, workdir):
    ours, theirs = (
        load(str(runner.folder / name / "checkpoints" / str(STEPS)))
        for name in (workdir, "undisturbed")
    )
    chex.assert_trees_all_equal(ours.variables, theirs.variables)
    assert runner.records(workdir) == runner.records("undisturbed")


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.chaos)],
)
def test_a_preempted_run_saves_its_very_step(runner, undisturbed, number, code):
    name = f"ended_{code}"
    process = runner.start(name)
    runner.wait_for_step(name, [process], 6)
    process.send_signal(number)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == code, output
    step = int(output.split("after step ")[1].split(",")[0])
    assert (runner.folder / name / "checkpoints" / str(step)).is_dir() and step >= 6
    assert "Traceback" not in output
    # A cache changes no bit.
    assert f"Resuming after step {step} " in runner.run(name, "--config.data.cache=True")
    equal_to_undisturbed(runner, name)


CHAOS = [pytest.param(kind, marks=pytest.mark.chaos) for kind in ("truncated", "metadata")]


@pytest.mark.parametrize("kind", ["flipped", "unlisted", *CHAOS])
def test_a_corrupt_checkpoint_leads_to_the_one_before(runner, undisturbed, kind):
    workdir = runner.folder / f"corrupt_{kind}"
    shutil.copytree(undisturbed, workdir)
    steps = sorted(int(p.name) for p in (workdir / "checkpoints").iterdir())
    assert len(steps) >= 2
    folder = workdir / "checkpoints" / str(steps[-1])
    largest = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = largest.read_bytes()
    if kind == "unlisted":  # Truncated, and only Orbax can tell.
        (folder / "manifest.json").unlink()
    if kind in ("truncated", "unlisted"):
        largest.write_bytes(content[: len(content) // 2])
    elif kind == "metadata":
        (folder / "metadata_json" / "metadata").write_text('{"model": ')
    else:
        middle = len(content) // 2
        flipped = bytes(b ^ 255 for b in content[middle : middle + 64])
        largest.write_bytes(content[:middle] + flipped + content[middle + 64 :])
    output = runner.run(workdir.name)
    assert f"CHECKPOINT {steps[-1]} IS CORRUPT" in output and "Traceback" not in output
    assert "Exception ignored" not in output
    assert f"from step {steps[-2]}" in output
    assert len(list((workdir / "quarantine").glob("*_*"))) == 1, "nothing is thrown away"
    equal_to_undisturbed(runner, workdir.name)


def test_a_run_of_corrupt_checkpoints_does_not_start_from_scratch(runner, undisturbed):
    workdir = runner.folder / "all_corrupt"
    shutil.copytree(undisturbed, workdir)
    for file in workdir.glob("checkpoints/*/metadata_json/metadata"):
        file.write_text("")
    before = sorted(p.name for p in (workdir / "checkpoints").iterdir())
    output = runner.run("all_corrupt", code=2)
    assert "None of the checkpoints" in output and "Traceback" not in output
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == before


def test_a_second_run_in_the_same_workdir_is_refused(tmp_path):
    with lock_workdir(epath.Path(tmp_path), True):
        with pytest.raises(UserError, match=f"process {os.getpid()} on"):
            lock_workdir(epath.Path(tmp_path), True)
    with lock_workdir(epath.Path(tmp_path), True):
        pass


@contextlib.contextmanager
def small_disk(folder, options):
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=False)


def test_a_workdir_that_cannot_be_written_is_refused(runner, undisturbed, tmp_path):
    """Before anything is trained; also where a run's good checkpoints lie."""
    with small_disk(tmp_path / "disk", "size=24m") as disk:
        shutil.copytree(undisturbed, disk / "run")
        before = {p: p.stat().st_mtime_ns for p in (disk / "run").rglob("*")}
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for workdir in (disk / "run", disk / "another"):
            output = runner.run("unused", f"--workdir={workdir}", code=2)
            assert f"The workdir {workdir} cannot be written: Read-only" in output
            assert "Traceback" not in output
        assert {p: p.stat().st_mtime_ns for p in (disk / "run").rglob("*")} == before
        assert load(str(disk / "run")).metadata.step == STEPS


def test_a_full_disk_leaves_the_last_good_checkpoint(runner, undisturbed, tmp_path):
    with small_disk(tmp_path / "disk", "size=3m") as disk:
        output = runner.run(str(disk / "run"), "--config.checkpoint.keep_latest=9", code=2)
        assert "could not be written" in output and "No space left" in output
        assert "make room, and the same command resumes" in output
        names = [p.name for p in (disk / "run" / "checkpoints").iterdir()]
        steps = sorted(int(name) for name in names if name.isdigit())
        assert steps, "the first checkpoints were written"
        assert load(str(disk / "run")).metadata.step in steps
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        output = runner.run(str(disk / "run"), "--config.checkpoint.keep_latest=9")
        assert "Resuming after step" in output
        ours = load(str(disk / "run" / "checkpoints" / str(STEPS)))
        theirs = load(str(undisturbed / "checkpoints" / str(STEPS)))
        chex.assert_trees_all_equal(ours.variables, theirs.variables)


def test_a_run_of_skipped_steps_ends_and_names_the_tensor(tmp_path):
    config = configs.image_folder.get_config("16")
    config.model.backbone = "cluenet_nano"
    config.model.cluenet.depths = (1, 1, 1, 1)
    config.data.dir = str(image_folder(tmp_path / "images", train=20, test=2, side=16))
    config.optim.batch_size = 8
    config.optim.max_loss = 1e-6
    config.train.log_every = 1
    config.train.max_consecutive_skips = 3
    with pytest.raises(UserError, match="The last 3 steps were skipped .* outputs are finite"):
        train_and_evaluate(config, str(tmp_path / "run"))
    records = read_metrics(epath.Path(tmp_path / "run/metrics.jsonl"))
    assert [r["step/skipped"] for r in records if "step/skipped" in r] == [1, 1, 1]


def losses(runner, workdir):
    return [r["step/loss"] for r in runner.records(workdir) if "step/loss" in r]


def test_sharded_state_learns_the_same_and_moves_to_one_device(runner, undisturbed):
    """FSDP on 8 devices equals one device, which resumes from its checkpoint."""
    half = "--config.train.max_steps=10"
    runner.run("sharded", "--config.train.shard_params=True", half, devices=8)
    np.testing.assert_allclose(losses(runner, "sharded"), losses(runner, "undisturbed")[:10], 1e-3)
    assert "Resuming after step 10" in runner.run("sharded")
    np.testing.assert_allclose(losses(runner, "sharded"), losses(runner, "undisturbed"), 2e-3)
