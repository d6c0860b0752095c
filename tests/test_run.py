"""Whole runs of `main.py` in processes of their own: killed, restarted, on other devices."""

import json
import os
import pathlib
import random
import signal
import socket
import struct
import subprocess
import sys
import time

import chex
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from cluenet_jax.train import checkpoint
from tests.pictures import image_folder

ROOT = pathlib.Path(__file__).parent.parent
STEPS = 20
# What differs between equal runs.
SPEEDS = ("step/images_per_s", "step/input_wait")


class Runner:
    """Starts `main.py` on a small image folder; compiled programs are kept for the next one."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.data = image_folder(folder / "pictures", train=20, test=7, side=16)

    def start(self, workdir: str, *flags: str, devices: int = 1) -> subprocess.Popen:
        command = [
            sys.executable,
            "main.py",
            "--config=configs/image_folder.py:16",
            f"--config.data.dir={self.data}",
            "--config.model.name=cluenet_nano",
            "--config.optim.batch_size=8",
            "--config.optim.peak_lr=2e-3",
            "--config.optim.epochs=4",
            "--config.optim.warmup_epochs=1",
            "--config.eval.batch_size=8",
            "--config.train.checkpoint_every=0.4",
            "--config.train.eval_every=2",
            "--config.train.log_every=1",
            f"--workdir={self.folder / workdir}",
            *flags,
        ]
        flags_of_xla = (
            f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
        )
        environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": flags_of_xla,
            "JAX_COMPILATION_CACHE_DIR": str(self.folder / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, workdir: str, *flags: str, devices: int = 1, code: int = 0) -> str:
        process = self.start(workdir, *flags, devices=devices)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == code, output
        return output

    def records(self, workdir: str) -> list[dict]:
        lines = (self.folder / workdir / "metrics.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(line).items() if k not in SPEEDS} for line in lines]


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    return Runner(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def undisturbed(runner):
    output = runner.run("undisturbed")
    assert "14 pictures" in output and "top1" in output
    return runner.folder / "undisturbed"


def test_an_undisturbed_run_learns_and_reports_every_step(runner, undisturbed):
    records = runner.records("undisturbed")
    assert [r["step"] for r in records if "step/loss" in r] == list(range(1, STEPS + 1))
    assert [r["step"] for r in records if "train/loss" in r] == [5, 10, 15, 20]
    assert [r["step"] for r in records if "test/top1" in r] == [10, 20]
    assert {r["test/count"] for r in records if "test/count" in r} == {14}
    assert max(r.get("test/top1", 0) for r in records) > 0.8
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


def test_a_killed_run_ends_like_one_never_killed(runner, undisturbed):
    """At random moments, of steps, evaluations and saves; `make chaos` does it 20 times."""
    rng, moments = random.SystemRandom(), []
    metrics = runner.folder / "killed" / "metrics.jsonl"
    for _ in range(int(os.environ.get("KILLS", 1))):
        done = len(runner.records("killed")) if metrics.exists() else 0
        process = runner.start("killed")
        deadline = time.monotonic() + 300
        new = rng.randint(1, 8)
        while not metrics.exists() or len(metrics.read_text().splitlines()) < done + new:
            assert time.monotonic() < deadline
            if process.poll() is not None:
                break
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        moments.append(metrics.read_text().splitlines()[-1][:40])

    output = runner.run("killed")
    assert "Going on after step" in output or "nothing to train" in output, moments
    ours, theirs = (
        checkpoint.load(str(runner.folder / name / "checkpoints" / str(STEPS)))
        for name in ("killed", "undisturbed")
    )
    chex.assert_trees_all_equal(ours.params, theirs.params)
    assert runner.records("killed") == runner.records("undisturbed"), moments
    assert scalars(runner.folder / "killed") == scalars(undisturbed), moments
    assert "nothing to train" in runner.run("killed")


def test_eight_devices_give_the_losses_of_one(runner, undisturbed):
    runner.run("eight", devices=8)
    ours, theirs = (
        [r for r in runner.records(d) if "step/loss" in r] for d in ("eight", "undisturbed")
    )
    assert len(ours) == len(theirs) == STEPS
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a["step/loss"], b["step/loss"], rtol=1e-3, err_msg=str(a))


def test_two_processes_run_like_one(runner, undisturbed):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        runner.start(
            "two",
            f"--coordinator=127.0.0.1:{port}",
            "--num_processes=2",
            f"--process_id={i}",
        )
        for i in range(2)
    ]
    for process in processes:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    ours, theirs = runner.records("two"), runner.records("undisturbed")
    assert [r.keys() for r in ours] == [r.keys() for r in theirs]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose([*a.values()], [*b.values()], rtol=1e-3, atol=1e-6)
    assert checkpoint.load(str(runner.folder / "two")).meta["scores"]["count"] == 14


def test_evaluation_of_a_checkpoint_repeats_its_score(runner, undisturbed):
    scores = runner.folder / "scores.json"
    path = f"{undisturbed}/checkpoints/{STEPS}"
    output = runner.run("unused", "--mode=eval", f"--checkpoint={path}", f"--json={scores}")
    (last,) = [r for r in runner.records("undisturbed") if r["step"] == STEPS and "test/top1" in r]
    assert f"top1 {last['test/top1']:.2%}" in output and "images/s" in output
    assert not (runner.folder / "unused").exists()
    found = json.loads(scores.read_text())
    np.testing.assert_allclose(found["loss"], last["test/loss"], rtol=1e-5)
    confusion = np.array(found["confusion"])
    assert confusion.sum(axis=1).tolist() == [7, 7]
    assert found["class_accuracy"] == {"cat": confusion[0, 0] / 7, "dog": confusion[1, 1] / 7}
    assert 0 <= found["calibration_error"] <= 1
    assert found["images_per_s_device"] > 0 and found["images_per_s_end_to_end"] > 0


def test_a_checkpoint_is_evaluated_without_a_config(runner, undisturbed):
    command = [sys.executable, "main.py", "--mode=eval", f"--checkpoint={undisturbed}"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0 and "pictures 14" in found.stdout, found.stderr


def test_fine_tuning_takes_all_but_the_head(runner, undisturbed):
    flags = ["--config.optim.epochs=1", "--config.optim.warmup_epochs=0"]
    other = runner.folder / "other"
    image_folder(other, train=4, test=2, side=16)
    for split in ("train", "test"):
        (other / split / "fox").mkdir()
        for file in (other / split / "dog").iterdir():
            (other / split / "fox" / file.name).write_bytes(file.read_bytes())
    output = runner.run(
        "tuned",
        f"--config.init_from={undisturbed}",
        f"--config.data.dir={other}",
        "--config.data.image_size=24",
        "--config.optim.freeze_backbone=true",
        *flags,
    )
    assert "left as drawn: head/bias, head/kernel" in output
    ours, theirs = (
        checkpoint.load(str(runner.folder / name)).params for name in ("tuned", "undisturbed")
    )
    assert ours.pop("head")["kernel"].shape == (96, 3)
    theirs.pop("head")
    chex.assert_trees_all_equal(ours, theirs)
    message = runner.run(
        "mismatch",
        f"--config.init_from={undisturbed}",
        "--config.model.name=cluenet_micro",
        *flags,
        code=2,
    )
    assert "Did you mean --config.model.name=cluenet_nano?" in message


def test_another_config_does_not_touch_a_run(runner, undisturbed):
    before = sorted(p.name for p in (undisturbed / "checkpoints").iterdir())
    output = runner.run("undisturbed", "--config.optim.peak_lr=0.5", code=2)
    assert "optim.peak_lr: 0.002 there, 0.5 now" in output
    assert sorted(p.name for p in (undisturbed / "checkpoints").iterdir()) == before


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.model.nam=x", 'Did you mean "name"'),
        ("--config.model.name=cluenet", "Models: cluenet_nano"),
        ("--config.data.dir=/nowhere", "there is no such folder"),
        ("--config=configs/cifar.py", "configs/cifar10.py"),
        ("--mode=eval", "No checkpoint in"),
        ("--config.optim.batch_size=0", "positive multiple"),
    ],
)
def test_what_is_wrong_is_said_without_a_traceback(runner, flag, message):
    process = runner.start("wrong", flag)
    output, _ = process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    assert message in output and "Traceback" not in output
    assert not (runner.folder / "wrong").exists(), "nothing half-written stays behind"
