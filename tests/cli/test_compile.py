"""The verb `compile`: a real compilation for TPUs, and its errors."""

import contextlib
import dataclasses
import io
import json
import pathlib

import jax
import pytest

from cluenet_jax.cli import compile as tool
from cluenet_jax.compile import topologies
from cluenet_jax.compile.hlo import parse_hlo
from cluenet_jax.errors import UserError
from tests.helpers.compilation import least_effort_compiled
from tests.helpers.runs import ROOT

RECIPE = f"--config={ROOT / 'configs' / 'digits.py'}"
SMALL = [
    "--config.data.image_size=16",
    "--config.augment.crop_padding=0",
    "--config.model.cluenet.dims=(8, 8, 8, 8)",
    "--config.model.cluenet.depths=(1, 1, 1, 1)",
    "--config.model.cluenet.num_heads=(1, 1, 1, 1)",
    "--config.model.cluenet.head_dim=8",
    "--config.optim.batch_size=8",
    "--config.eval.batch_size=16",
]
V5E = "--topology=v5e:2x2"


@dataclasses.dataclass
class Run:
    code: int
    text: str
    figures: dict
    folder: pathlib.Path
    programs: list


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small model, compiled for four chips."""
    pytest.importorskip("libtpu", reason="libtpu is for Linux on x86-64")
    folder = tmp_path_factory.mktemp("compiled")
    programs, text = [], io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(text):
        for name in ("compile_train_step", "compile_eval_step"):
            original = getattr(tool, name)
            patch.setattr(
                tool,
                name,
                lambda p, original=original: programs.append(original(p)) or programs[-1],
            )
        arguments = [V5E, RECIPE, *SMALL, f"--json={folder / 'all.json'}", f"--hlo={folder}"]
        with least_effort_compiled():
            code = tool.main(arguments)
    figures = json.loads((folder / "all.json").read_text())
    return Run(code, text.getvalue(), figures, folder, programs)


def test_it_fits_and_says_what_it_takes(run):
    assert run.code == 0 and run.figures["fits"]
    assert "v5e:2x2: 4 devices of 15.75 GiB" in run.text and "nothing was run" in run.text
    assert "train_step, 2 examples a device" in run.text
    assert "eval_step, 4 examples a device" in run.text
    train = run.figures["programs"]["train_step"]
    memory = train["memory_bytes"]
    # AdamW keeps two numbers for each parameter, and counts steps.
    assert memory["optimizer"] >= 2 * memory["parameters"] > 0
    assert memory["total"] == sum(memory.values()) - memory["total"]
    assert train["flops"] > 0 and train["bytes_accessed"] > 0 and train["compile_seconds"] > 0


def test_cycles_are_by_stage_block_and_part(run):
    train = run.figures["programs"]["train_step"]["estimated_cycles"]
    scopes = train["by_scope"]
    assert train["total"] == sum(scopes.values()) > 0
    for scope in ("stage1/stage1_block0/attention", "stage4/stage4_block0/mlp"):
        assert scopes[scope] > 0
    assert scopes["outside the model/outside the model/optimizer"] > 0


def test_gradients_are_reduced_and_told_from_the_other_collectives(run):
    collectives = run.figures["programs"]["train_step"]["collectives"]
    gradients = [c for c in collectives if c["over"] == "parameters and gradients"]
    memory = run.figures["programs"]["train_step"]["memory_bytes"]
    # Some gradients are merged into others' arrays.
    reduced = sum(c["bytes"] for c in gradients)
    assert 0.95 * memory["parameters"] <= reduced <= memory["parameters"]
    # Results of the evaluation are gathered.
    over = {c["over"] for c in run.figures["programs"]["eval_step"]["collectives"]}
    assert "parameters and gradients" not in over and "results" in over


def test_the_programs_are_written(run):
    for name in ("train_step", "eval_step"):
        module = parse_hlo((run.folder / f"{name}.hlo.txt").read_text())
        assert len(module.computations[module.entry]) > 100


def test_what_does_not_fit_ends_with_code_1(run, monkeypatch, capsys):
    train, evaluation = run.programs
    small = dataclasses.replace(topologies.GENERATIONS["v5e"], memory_bytes=2**20)
    monkeypatch.setitem(topologies.GENERATIONS, "v5e", small)
    monkeypatch.setattr(tool, "compile_train_step", lambda programs: train)
    monkeypatch.setattr(tool, "compile_eval_step", lambda programs: evaluation)
    assert tool.main([V5E, RECIPE, *SMALL]) == 1
    assert "DOES NOT FIT" in capsys.readouterr().out


def test_the_largest_batch_is_looked_for(run, monkeypatch, capsys):
    train, evaluation = run.programs
    sizes = []

    def compile_train_step(programs):
        sizes.append(programs.config.optim.batch_size)
        if sizes[-1] > 4 * 5:
            return dataclasses.replace(train, memory=None, refusal="too large")
        return dataclasses.replace(train, batch_size=sizes[-1])

    monkeypatch.setattr(tool, "compile_train_step", compile_train_step)
    monkeypatch.setattr(tool, "compile_eval_step", lambda programs: evaluation)
    assert tool.main([V5E, RECIPE, *SMALL, "--largest_batch"]) == 0
    assert "Largest batch that fits in training: 5 a device" in capsys.readouterr().out
    assert sizes[0] == 8 and all(size % 4 == 0 for size in sizes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topology=v9:2x2", RECIPE], "no such slice"),
        ([V5E], "--config=FILE is missing"),
        ([V5E, RECIPE, "--config.optim.batch=8"], "the config has no setting"),
        ([V5E, RECIPE, "--config.optim.batch_size=many"], "batch_size=many"),
        ([V5E, "--config=configs/digit.py"], "No such file"),
        ([V5E, RECIPE, "--no_such_flag"], "no_such_flag"),
        ([V5E, RECIPE, "surplus"], "Unexpected arguments: surplus"),
    ],
)
def test_errors_are_one_message(arguments, message):
    with pytest.raises(UserError, match=message):
        tool.main(arguments)


def test_a_missing_libtpu_is_an_error(monkeypatch):
    monkeypatch.setattr(topologies.platform, "system", lambda: "Linux")
    monkeypatch.setattr(topologies.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(topologies.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="libtpu is not installed"):
        tool.main([V5E, RECIPE])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.optim.batch_size=6"], "multiple of the 4 devices"),
        (["--config.data.name=image_folder"], "--num_targets=N"),
    ],
)
def test_the_configuration_is_checked_for_the_slice(arguments, message):
    pytest.importorskip("libtpu", reason="libtpu is for Linux on x86-64")
    with pytest.raises(UserError, match=message):
        tool.main([V5E, RECIPE, *arguments])


def test_jax_still_runs_here():
    assert jax.devices()[0].platform == "cpu"
