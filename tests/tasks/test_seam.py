"""The proof of the seam: a task that the package does not know has everything a task has."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import chex
import jax
import numpy as np
import pytest
from PIL import Image

from cluenet_jax import explain
from cluenet_jax.checkpoints.load import load
from cluenet_jax.cli import export, predict
from tests.helpers.compilation import xla_flags
from tests.helpers.images import image_folder
from tests.helpers.runs import ROOT, records_of
from tests.tasks import mean_color


def start(folder: pathlib.Path, workdir: str, cache: pathlib.Path) -> subprocess.Popen:
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": xla_flags(devices=1),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, "-m", "tests.tasks.mean_color"]
    return subprocess.Popen(
        [*command, str(folder / "images"), str(folder / workdir)],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def folder(tmp_path_factory, compiled_programs):
    """Two runs on the same images: one undisturbed, the other killed and resumed."""
    folder = tmp_path_factory.mktemp("seam")
    image_folder(folder / "images", train=20, test=7, side=16)
    finish(start(folder, "undisturbed", compiled_programs))
    process = start(folder, "killed", compiled_programs)
    metrics, deadline = folder / "killed" / "metrics.jsonl", time.monotonic() + 900
    while not metrics.exists() or '"step": 7' not in metrics.read_text():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert "Resuming after step" in finish(start(folder, "killed", compiled_programs))
    return folder


def test_it_trains_and_resumes_bit_for_bit(folder):
    ours, theirs = (
        load(str(folder / name / "checkpoints" / "20")) for name in ("killed", "undisturbed")
    )
    chex.assert_trees_all_equal(ours.variables, theirs.variables)
    records = records_of(folder / "undisturbed")
    assert records_of(folder / "killed") == records
    losses = [r["train/loss"] for r in records if "train/loss" in r]
    assert len(losses) == 4 and losses[-1] < 0.5 * losses[0]


def test_it_keeps_its_best_checkpoint_by_its_own_metric(folder):
    records = records_of(folder / "undisturbed")
    closeness = {r["step"]: r["eval/closeness"] for r in records if "eval/closeness" in r}
    best = load(str(folder / "undisturbed"))
    assert best.metadata.step == max(closeness, key=lambda step: (closeness[step], step))
    assert best.metadata.best_metric == "closeness" and best.task.name == "mean_color"


def test_it_predicts_and_draws(folder, tmp_path, capsys):
    checkpoint, images = f"--checkpoint={folder / 'undisturbed'}", str(folder / "images/test/cat")
    assert predict.main([checkpoint, "--format=json", f"--out={tmp_path}", images]) == 0
    results = json.loads(capsys.readouterr().out)
    assert len(results) == 7 and results[0]["scores"].keys() == {"red", "green", "blue"}
    with Image.open(tmp_path / "000.png") as drawn:
        assert drawn.size == (24, 24)
    assert predict.main([checkpoint, "--format=csv", images]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "file,name,score"


def test_it_exports_and_shows_its_maps(folder, tmp_path):
    export.main([str(folder / "undisturbed"), str(tmp_path / "out")])
    trained = load(str(folder / "undisturbed"))
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    program = jax.export.deserialize(bytearray((tmp_path / "out/model.stablehlo").read_bytes()))
    examples = [trained.task.unlabeled_example(Image.fromarray(image)) for image in images]
    expected = [result.rgb for result in trained.predict(examples, batch_size=3)]
    np.testing.assert_allclose(program.call(images), expected, atol=1e-5)
    normal = trained.preprocessing.normalize(images)
    clusters = explain.cluster_maps(trained.model, trained.variables, normal)
    assert [c.shape[-1] for c in clusters] == [8, 4, 2, 1]


def test_the_toy_task_is_short():
    code = pathlib.Path(mean_color.__file__).read_text()
    assert code[code.index("class Head") : code.index("TASKS[")].count("\n") < 80
