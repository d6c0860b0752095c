"""Runs that are ended, disturbed or damaged: nothing is lost, and the message says what to do."""

import contextlib
import os
import shutil
import signal
import subprocess

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

import configs.image_folder
from cluenet_jax.errors import UserError
from cluenet_jax.train import checkpoint, diagnose, loop, report
from cluenet_jax.train.lock import lock_workdir
from tests.pictures import image_folder
from tests.runs import STEPS
from tests.test_cluenet import first_weights, images, tiny


def equal_to_undisturbed(runner, workdir):
    ours, theirs = (
        checkpoint.load(str(runner.folder / name / "checkpoints" / str(STEPS)))
        for name in (workdir, "undisturbed")
    )
    chex.assert_trees_all_equal(ours.params, theirs.params)
    assert runner.records(workdir) == runner.records("undisturbed")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_asked_to_end_saves_its_very_step(runner, undisturbed, number, code):
    name = f"ended_{code}"
    process = runner.start(name)
    runner.wait_for_step(name, [process], 6)
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == code, output
    step = int(output.split("after step ")[1].split(",")[0])
    assert (runner.folder / name / "checkpoints" / str(step)).is_dir() and step >= 6
    assert "Traceback" not in output
    # Where the pictures live changes no bit.
    assert f"Going on after step {step} " in runner.run(name, "--config.data.on_device=True")
    equal_to_undisturbed(runner, name)


@pytest.mark.parametrize("damage", ["truncated", "meta", "flipped", "unlisted"])
def test_a_damaged_checkpoint_leads_to_the_one_before(runner, undisturbed, damage):
    workdir = runner.folder / f"damaged_{damage}"
    shutil.copytree(undisturbed, workdir)
    steps = sorted(int(p.name) for p in (workdir / "checkpoints").iterdir())
    assert len(steps) >= 2
    folder = workdir / "checkpoints" / str(steps[-1])
    largest = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = largest.read_bytes()
    if damage == "unlisted":  # Truncated, and only Orbax can tell.
        (folder / "manifest.json").unlink()
    if damage in ("truncated", "unlisted"):
        largest.write_bytes(content[: len(content) // 2])
    elif damage == "meta":
        (folder / "meta" / "metadata").write_text('{"model": ')
    else:
        middle = len(content) // 2
        flipped = bytes(b ^ 255 for b in content[middle : middle + 64])
        largest.write_bytes(content[:middle] + flipped + content[middle + 64 :])
    output = runner.run(workdir.name)
    assert f"CHECKPOINT {steps[-1]} IS DAMAGED" in output and "Traceback" not in output
    assert "Exception ignored" not in output
    assert f"from step {steps[-2]}" in output
    assert len(list((workdir / "damaged").glob("*_*"))) == 1, "nothing is thrown away"
    equal_to_undisturbed(runner, workdir.name)


def test_only_damaged_checkpoints_are_no_reason_to_begin_anew(runner, undisturbed):
    workdir = runner.folder / "all_damaged"
    shutil.copytree(undisturbed, workdir)
    for file in workdir.glob("checkpoints/*/meta/metadata"):
        file.write_text("")
    before = sorted(p.name for p in (workdir / "checkpoints").iterdir())
    output = runner.run("all_damaged", code=2)
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
        assert checkpoint.load(str(disk / "run")).meta["step"] == STEPS


def test_a_full_disk_leaves_the_last_good_checkpoint(runner, undisturbed, tmp_path):
    with small_disk(tmp_path / "disk", "size=24m") as disk:
        output = runner.run(str(disk / "run"), "--config.train.keep_latest=9", code=2)
        assert "could not be written" in output and "No space left" in output
        assert "make room, and the same command goes on" in output
        names = [p.name for p in (disk / "run" / "checkpoints").iterdir()]
        steps = sorted(int(name) for name in names if name.isdigit())
        assert steps, "the first checkpoints were written"
        loaded = checkpoint.load(str(disk / "run"))
        assert loaded.meta["step"] in steps
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        output = runner.run(str(disk / "run"), "--config.train.keep_latest=9")
        assert "Going on after step" in output
        ours = checkpoint.load(str(disk / "run" / "checkpoints" / str(STEPS)))
        theirs = checkpoint.load(str(undisturbed / "checkpoints" / str(STEPS)))
        chex.assert_trees_all_equal(ours.params, theirs.params)


def test_a_run_of_useless_steps_ends_and_names_the_tensor(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "model_from_config", lambda _, classes: tiny(num_classes=classes))
    config = configs.image_folder.get_config("16")
    config.data.dir = str(image_folder(tmp_path / "pictures", train=20, test=2, side=16))
    config.optim.batch_size = 8
    config.optim.max_loss = 1e-6
    config.train.log_every = 1
    config.train.max_skipped_in_a_row = 3
    with pytest.raises(UserError, match="The last 3 steps were skipped .* outputs are finite"):
        loop.train_and_evaluate(config, str(tmp_path / "run"))
    records = report.read_metrics(epath.Path(tmp_path / "run/metrics.jsonl"))
    assert [r["step/skipped"] for r in records if "step/skipped" in r] == [1, 1, 1]


def test_the_first_tensor_that_is_not_finite_is_named():
    model, x = tiny(), images(1, 16, 16, 3)
    params = first_weights(model, x)["params"]
    batch = {"image": np.zeros((1, 16, 16, 3), np.uint8)}

    def diagnosis(params):
        return diagnose.first_not_finite(model, params, batch, (0.5,) * 3, (0.5,) * 3)

    assert "outputs are finite" in diagnosis(params)
    spoilt = jax.tree.map(lambda p: p, params)
    spoilt["head"]["bias"] = jnp.array([0, jnp.nan, 0])
    assert "parameter head/bias" in diagnosis(spoilt)
    spoilt = jax.tree.map(lambda p: p, params)
    spoilt["stage2_block0"]["norm1"]["scale"] = jnp.full(8, 3e38)
    assert "The output of stage2_block0/" in diagnosis(spoilt)


def losses(runner, workdir):
    return [r["step/loss"] for r in runner.records(workdir) if "step/loss" in r]


def test_state_cut_over_devices_learns_the_same_and_moves_to_one(runner, undisturbed):
    """FSDP on 8 devices equals one device, which goes on from its checkpoint."""
    half = "--config.train.max_steps=10"
    runner.run("spread", "--config.train.shard_params=True", half, devices=8)
    np.testing.assert_allclose(losses(runner, "spread"), losses(runner, "undisturbed")[:10], 1e-3)
    assert "Going on after step 10" in runner.run("spread")
    np.testing.assert_allclose(losses(runner, "spread"), losses(runner, "undisturbed"), 2e-3)
