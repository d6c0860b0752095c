"""Whole runs of `main.py` in processes of their own: killed, restarted, on other devices."""

import json
import os
import pathlib
import random
import signal
import struct
import subprocess
import sys
import time

import chex
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from cluenet_jax.checkpoints.load import load
from tests.helpers.images import image_folder
from tests.helpers.runs import ROOT, SPEEDS, STEPS


def test_an_undisturbed_run_learns_and_records_every_step(runner, undisturbed):
    records = runner.records("undisturbed")
    assert [r["step"] for r in records if "step/loss" in r] == list(range(1, STEPS + 1))
    assert [r["step"] for r in records if "train/loss" in r] == [5, 10, 15, 20]
    assert [r["step"] for r in records if "eval/top1" in r] == [10, 20]
    assert {r["eval/count"] for r in records if "eval/count" in r} == {14}
    assert max(r.get("eval/top1", 0) for r in records) > 0.8
    assert sorted(int(p.name) for p in (undisturbed / "checkpoints").iterdir())[-1] == STEPS


def scalars(workdir: pathlib.Path) -> list[tuple[int, str, float]]:
    """TensorBoard's view of a run: what a restart purges is gone."""
    kept: list[tuple[int, str, float]] = []
    for file in sorted((workdir / "tensorboard").iterdir(), key=lambda p: p.stat().st_mtime_ns):
        data, at = file.read_bytes(), 0
        while at + 12 <= len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
            at += 12 + length + 4
            if event.session_log.status == event_pb2.SessionLog.START:
                kept = [row for row in kept if row[0] < event.step]
            kept += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
    return [row for row in kept if row[1] not in SPEEDS]


def is_at(moment: str, workdir: pathlib.Path, before: int) -> bool:
    """Whether a run with `before` records at its start saves, evaluates or has taken a step."""
    metrics, checkpoints = workdir / "metrics.jsonl", workdir / "checkpoints"
    if moment == "save":
        return checkpoints.exists() and not all(p.name.isdigit() for p in checkpoints.iterdir())
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    if moment == "evaluation":
        return bool(lines) and '"step": 10, "epoch"' in lines[-1]
    return len(lines) > before


def killed_at(runner, name: str, moment: str, seconds: float) -> bool:
    """Starts or continues a run and kills it; False if it came to its end before."""
    workdir = runner.folder / name
    before = len(runner.records(name)) if (workdir / "metrics.jsonl").exists() else 0
    process = runner.start(name)
    deadline = time.monotonic() + 900
    while process.poll() is None and not is_at(moment, workdir, before):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), output
    return process.returncode != 0


def test_a_killed_run_ends_like_one_never_killed(runner, undisturbed):
    """In steps, saves and evaluations; `make chaos` kills 20 times."""
    rng, kills, names = random.SystemRandom(), [], ["killed_0"]
    wanted = int(os.environ.get("KILLS", 1))
    while len(kills) < wanted:
        moment = ("steps", "save", "evaluation")[rng.randrange(3)]
        if killed_at(runner, names[-1], moment, rng.uniform(0, 0.3 if moment == "steps" else 0.05)):
            kills.append((names[-1], moment))
        else:
            names.append(f"killed_{len(names)}")
    print(kills)
    for name in names:
        # A save under way has no number for a name yet.
        folder = runner.folder / name / "checkpoints"
        saved = folder.exists() and any(p.name.isdigit() for p in folder.iterdir())
        output = runner.run(name)
        resumed = "Resuming after step" in output or "nothing to train" in output
        assert resumed == saved, kills
        ours, theirs = (
            load(str(runner.folder / run / "checkpoints" / str(STEPS)))
            for run in (name, "undisturbed")
        )
        chex.assert_trees_all_equal(ours.variables, theirs.variables)
        assert runner.records(name) == runner.records("undisturbed"), kills
        assert scalars(runner.folder / name) == scalars(undisturbed), kills
    assert "nothing to train" in runner.run(names[0])


@pytest.mark.chaos
def test_eight_devices_give_the_losses_of_one(runner, undisturbed):
    runner.run("eight", devices=8)
    ours, theirs = (
        [r for r in runner.records(d) if "step/loss" in r] for d in ("eight", "undisturbed")
    )
    assert len(ours) == len(theirs) == STEPS
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a["step/loss"], b["step/loss"], rtol=1e-3, err_msg=str(a))


def test_evaluation_of_a_checkpoint_repeats_its_score(runner, undisturbed):
    scores = runner.folder / "scores.json"
    path = f"{undisturbed}/checkpoints/{STEPS}"
    output = runner.run("unused", "--mode=eval", f"--checkpoint={path}", f"--json={scores}")
    (last,) = [r for r in runner.records("undisturbed") if r["step"] == STEPS and "eval/top1" in r]
    assert f"top1 {last['eval/top1']:.2%}" in output and "images/s" in output
    assert not (runner.folder / "unused").exists()
    found = json.loads(scores.read_text())
    np.testing.assert_allclose(found["loss"], last["eval/loss"], rtol=1e-5)
    confusion = np.array(found["confusion"])
    assert confusion.sum(axis=1).tolist() == [7, 7]
    assert found["class_accuracy"] == {"cat": confusion[0, 0] / 7, "dog": confusion[1, 1] / 7}
    assert 0 <= found["calibration_error"] <= 1
    assert found["images_per_s_device"] > 0 and found["images_per_s_end_to_end"] > 0


def test_a_checkpoint_is_evaluated_without_a_config(runner, undisturbed):
    command = [sys.executable, "main.py", "--mode=eval", f"--checkpoint={undisturbed}"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert found.returncode == 0 and "images 14" in found.stdout, found.stderr


def test_fine_tuning_takes_the_backbone(runner, undisturbed):
    flags = ["--config.optim.epochs=1", "--config.optim.warmup_epochs=0"]
    other = runner.folder / "other"
    image_folder(other, train=4, test=2, side=16)
    for split in ("train", "test"):
        (other / split / "fox").mkdir()
        for file in (other / split / "dog").iterdir():
            (other / split / "fox" / file.name).write_bytes(file.read_bytes())
    output = runner.run(
        "tuned",
        f"--config.init.checkpoint={undisturbed}",
        f"--config.data.dir={other}",
        "--config.data.image_size=24",
        "--config.optim.freeze_backbone=true",
        *flags,
    )
    assert "randomly initialized: head/linear/bias, head/linear/kernel." in output
    ours, theirs = (
        load(str(runner.folder / name)).variables["params"] for name in ("tuned", "undisturbed")
    )
    assert ours["head"]["linear"]["kernel"].shape == (16, 3)
    chex.assert_trees_all_equal(ours["backbone"], theirs["backbone"])
    message = runner.run(
        "mismatch",
        f"--config.init.checkpoint={undisturbed}",
        "--config.model.backbone=cluenet_micro",
        *flags,
        code=2,
    )
    assert "Did you mean --config.model.backbone=cluenet_nano?" in message


def test_another_config_does_not_touch_a_run(runner, undisturbed):
    before = sorted(p.name for p in (undisturbed / "checkpoints").iterdir())
    output = runner.run("undisturbed", "--config.optim.peak_lr=0.5", code=2)
    assert "optim.peak_lr: 0.002 there, 0.5 now" in output
    assert sorted(p.name for p in (undisturbed / "checkpoints").iterdir()) == before


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.model.backbon=x", 'Did you mean "backbone"'),
        ("--config.model.backbone=cluenet", "Models: cluenet_nano"),
        ("--config.data.dir=/nowhere", "there is no such folder"),
        ("--config=configs/cifar.py", "configs/cifar10.py"),
        ("--mode=eval", "No checkpoint in"),
        ("--config.optim.batch_size=0", "positive multiple"),
        ("--config.augment.rand_augment=()", "takes 2 values"),
    ],
)
def test_what_is_wrong_is_said_without_a_traceback(runner, flag, message):
    process = runner.start("wrong", flag)
    output, _ = process.communicate(timeout=600)
    assert process.returncode not in (0, None)
    assert message in output and "Traceback" not in output
    assert not (runner.folder / "wrong").exists(), "nothing half-written stays behind"
