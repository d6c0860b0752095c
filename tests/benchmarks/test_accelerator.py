"""The command for a GPU or TPU, as far as a CPU can run it."""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import time

import pytest

from benchmarks import accelerator

ROOT = pathlib.Path(__file__).parent.parent.parent
QUICK = {"rounds": 1, "seconds": 0.01, "side_minutes": 5.0}


def run(*arguments):
    command = [sys.executable, "-m", "benchmarks.accelerator", *arguments]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def arguments(**changed):
    return argparse.Namespace(**{"models": None, "quick": False, "batch": 64, **changed})


def filled(speed, batch=64):
    speeds = {"median": speed, "lowest": 0.9 * speed, "highest": 1.1 * speed}
    peaks = {"infer": 2**30, "train": 3 * 2**30}
    return {"batch": batch, "peak_bytes": peaks, "infer": speeds, "train": speeds}


@pytest.mark.chaos
def test_quick_measures_a_model_and_says_what_it_left_out(tmp_path):
    before, path = cpu_seconds(), tmp_path / "figures.json"
    done = run("--quick", f"--json={path}")
    assert done.returncode == 0, done.stderr
    assert cpu_seconds() - before < 90
    (row,) = json.loads(path.read_text())["rows"]
    assert (row["model"], row["size"], row["batch"]) == ("cluenet_nano", 32, 4)
    ours = row["sides"]["ours"]
    assert ours["train"]["median"] > 0 and ours["infer"]["median"] > 0
    assert ours["peak_bytes"]["train"] >= ours["peak_bytes"]["infer"] > 0
    assert "| `cluenet_nano`, 32², batch 4, bfloat16 | training |" in done.stdout
    assert "the speeds mean nothing" in done.stdout
    assert "left out of --quick" in done.stdout or "PyTorch cannot be imported" in done.stdout


def test_it_needs_an_accelerator():
    done = run()
    assert done.returncode == 2 and not done.stdout
    assert "no GPU or TPU" in done.stderr and "--quick" in done.stderr


def test_an_unknown_model_is_refused_with_the_known_ones():
    done = run("--models=cluenet_tiny,cluenet_huge")
    assert done.returncode == 2
    assert "'cluenet_huge'" in done.stderr and "clustr_b3" in done.stderr


def test_the_rows_of_most_interest_come_first():
    rows = accelerator.plan(arguments(), None)
    order = [(row["model"], row["dtype"]) for row in rows]
    assert order[:3] == [
        ("cluenet_mini_cifar", "bfloat16"),
        ("cluenet_tiny", "bfloat16"),
        ("clustr_b1", "bfloat16"),
    ]
    assert [dtype for _, dtype in order[3:6]] == ["float32"] * 3
    assert len({*order}) == len(order) == 2 * 8
    sizes = {(row["size"], row["batch"]) for row in rows if row["model"] == "cluenet_mini_cifar"}
    assert sizes == {(32, 256)} and {row["size"] for row in rows[1:3]} == {224}


def test_a_failing_row_is_recorded_and_the_others_are_measured(tmp_path, monkeypatch):
    """The first row's process fails for real."""
    rows = accelerator.plan(arguments(models=["clustr_nano", "cluenet_nano"]), "no peer")
    rows[0]["model"] = "no_such_model"
    rows = rows[:2]
    path, real = tmp_path / "figures.json", accelerator.run_side

    def run_side(result, row, side, deadline):
        if row["model"] == "no_such_model":
            return real(result, row, side, deadline)
        return filled(100.0)

    monkeypatch.setattr(accelerator, "run_side", run_side)
    accelerator.measure({**QUICK, "rows": rows}, time.monotonic() + 300, path)
    failed, measured = (row["sides"]["ours"] for row in json.loads(path.read_text())["rows"])
    assert failed["not_measured"].startswith("ValueError: Unknown model 'no_such_model'")
    assert measured == filled(100.0)


def test_without_time_every_row_is_listed(tmp_path):
    rows = accelerator.plan(arguments(), "no peer")
    path = tmp_path / "figures.json"
    accelerator.measure({**QUICK, "rows": rows}, time.monotonic(), path)
    text = "\n".join(accelerator.not_measured(json.loads(path.read_text())["rows"]))
    assert text.count("ours") == 16 and "- no time left: " in text and "- no peer: " in text


def test_a_side_that_takes_too_long_is_ended():
    row = accelerator.new_row("cluenet_nano", "float32", arguments(quick=True), None)
    figures = accelerator.run_side(QUICK, row, "ours", time.monotonic() + 0.5)
    assert figures == {"not_measured": "no time left"}
    limits = {**QUICK, "side_minutes": 0.01}
    figures = accelerator.run_side(limits, row, "ours", time.monotonic() + 60)
    assert figures == {"not_measured": "took more than 0.01 minutes"}


@pytest.mark.parametrize(("fitting", "batch"), [(64, 64), (20, 16), (0, None)])
def test_what_does_not_fit_gets_half_the_batch(monkeypatch, fitting, batch):
    reason = {"not_measured": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"}

    def run_side(result, row, side, deadline):
        return filled(100.0, row["batch"]) if row["batch"] <= fitting else reason

    monkeypatch.setattr(accelerator, "run_side", run_side)
    row = accelerator.new_row("cluenet_tiny", "float32", arguments(), None)
    figures = accelerator.measure_side(QUICK, row, "eager", 0.0)
    assert figures == (filled(100.0, batch) if batch else reason)


def test_the_table_has_ratios_and_smaller_batches():
    row = accelerator.new_row("cluenet_tiny", "float32", arguments(), None)
    row["sides"] |= {"ours": filled(300.0), "eager": filled(200.0, batch=32)}
    line = accelerator.table_line(row, "train")
    assert "| 300 (270 … 330) | 200 (180 … 220), batch 32 | not measured |" in line
    assert "| **1.50** | – | 3.00 / 3.00 / – |" in line


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        ("Traceback\n  File x\nValueError: Wrong.\n", "ValueError: Wrong."),
        (
            "jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED: Out of memory\n------\nFor simplicity",
            "jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED: Out of memory",
        ),
        ("Killed\n", "Killed"),
        ("", ""),
    ],
)
def test_the_reason_is_one_line(errors, reason):
    assert accelerator.reason_of(errors) == reason
