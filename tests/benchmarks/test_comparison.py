"""The comparison of all families: sizes, choice of the rate, table, the whole path made tiny."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from benchmarks import comparison, plain
from cluenet_jax.errors import UserError
from cluenet_jax.explain import compute_maps, decision_regions
from cluenet_jax.models.backbones import FAMILIES
from cluenet_jax.models.settings import model_from_config
from tests.helpers.compilation import xla_flags
from tests.helpers.images import image_folder
from tests.helpers.models import random_images, random_variables

CURVES = ("deletion", "insertion")
ROOT = pathlib.Path(__file__).parent.parent.parent


@pytest.fixture
def known(monkeypatch):
    for name, family in plain.PLAIN.items():
        monkeypatch.setitem(FAMILIES, name, family)


def settings_of(*arguments):
    args = comparison.parse([*arguments, "--data=images"])
    args.workdir, args.out = pathlib.Path("runs"), pathlib.Path("runs/comparison.json")
    return comparison.settings_of(args)


def test_all_families_are_compared_at_equal_parameters(known):
    settings, counts = settings_of(), {}
    for name in settings.models:
        model = model_from_config(comparison.recipe_of(name, settings).model, num_classes=100)
        images = jnp.zeros((1, settings.image_size, settings.image_size, 3))
        variables = jax.eval_shape(model.init, jax.random.key(0), images)
        counts[name] = comparison.count_parameters(variables)
    assert {name.split("_")[0] for name in counts} == FAMILIES.keys()
    assert max(counts.values()) <= 1.1 * min(counts.values()), counts
    assert 300_000 < counts["cluenet_nano"] < 500_000


def test_all_runs_share_epochs_batch_and_augmentation(known):
    settings = settings_of("--epochs=7", "--batch=64")
    recipes = {name: comparison.recipe_of(name, settings) for name in settings.models}
    (first, *later) = [recipe.to_dict() for recipe in recipes.values()]
    assert first["optim"]["epochs"] == 7 and first["optim"]["batch_size"] == 64
    assert first["augment"]["crop_padding"] == 4 and first["augment"]["horizontal_flip"]
    for recipe in later:
        assert {**recipe, "model": None} == {**first, "model": None}
    assert recipes["coc_nano"].model.coc.dims == (32, 48, 64, 104)
    assert recipes["vit_nano"].model.backbone == "vit_nano"


def test_held_out_images_are_training_images_of_every_class(tmp_path):
    data = image_folder(tmp_path / "images", train=11, test=2, side=8)
    stopped = tmp_path / "held_out.part" / "train" / "left"
    stopped.mkdir(parents=True)
    folder = comparison.hold_out(data, tmp_path)
    assert not stopped.exists()
    for label in ("cat", "dog"):
        names = {
            split: {path.name for path in (folder / split / label).iterdir()}
            for split in ("train", "val")
        }
        assert names["val"] == {"000.png", "010.png"}
        assert names["train"] | names["val"] == {p.name for p in (data / "train" / label).iterdir()}
        assert not names["train"] & names["val"]
    assert {path.name for path in (folder / "train").iterdir()} == {"cat", "dog"}
    shutil.rmtree(data / "train" / "cat")
    assert comparison.hold_out(data, tmp_path) == folder
    assert (folder / "train" / "cat").is_dir(), "it was made again"


def test_the_best_rate_is_of_those_that_did_not_diverge():
    assert comparison.best_rate("a", {"0.001": 0.25, "0.003": 0.5, "0.01": None}) == "0.003"
    with pytest.raises(UserError, match="lower --rates"):
        comparison.best_rate("a", {"0.01": None})


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Settings of a store in `tmp_path`, and the runs, which are recorded instead of trained."""
    args = comparison.parse(
        ["--data=images", "--rates=0.001,0.01,0.1", "--seeds=2", "--epochs=6", "--rate_epochs=2"]
    )
    args.workdir, args.out = tmp_path, tmp_path / "comparison.json"
    args.data = image_folder(tmp_path / "images", train=11, test=2, side=8)
    runs = []

    def train(name, folder, arguments, settings):
        known = dict(argument.split("=", 1) for argument in arguments)
        seed, rate = int(known["--config.seed"]), known["--config.optim.peak_lr"]
        data = pathlib.Path(known["--config.data.dir"]).name
        runs.append((folder, data, rate, seed, float(known["--config.optim.epochs"])))
        top1 = {"0.001": 0.25, "0.01": 0.5, "0.1": None}[rate]
        return top1 + seed / 8 if top1 else None

    monkeypatch.setattr(comparison, "train", train)
    monkeypatch.setattr(comparison, "measure", lambda workdir, settings: {"of": workdir.name})
    speed = {"train_images_per_s": 100.0, "infer_images_per_s": 400.0}
    monkeypatch.setattr(comparison, "measure_speed", lambda name, settings: speed)
    settings = comparison.settings_of(args)
    comparison.check_store(settings)
    return settings, runs


def test_the_rate_is_chosen_on_held_out_images_and_the_seeds_see_all(made):
    settings, runs = made
    row = comparison.compare("coc_nano", settings)
    assert runs == [
        ("rate_0.001", "held_out_images", "0.001", 0, 2.0),
        ("rate_0.01", "held_out_images", "0.01", 0, 2.0),
        ("rate_0.1", "held_out_images", "0.1", 0, 2.0),
        ("rate_0.01_seed_0", "images", "0.01", 0, 6.0),
        ("rate_0.01_seed_1", "images", "0.01", 1, 6.0),
    ]
    assert row["held_out_top1"] == {"0.001": 0.25, "0.01": 0.5, "0.1": None}
    assert (row["rate"], row["top1"], row["top1_mean"]) == (0.01, [0.5, 0.625], 0.5625)
    assert (row["of"], row["train_images_per_s"]) == ("rate_0.01_seed_0", 100.0)


def test_what_is_done_is_not_done_again(made):
    """By any process or machine that has the JSON."""
    settings, runs = made
    row = comparison.compare("coc_nano", settings)
    assert len(runs) == 5
    comparison.check_store(settings)
    results = comparison.read_store(settings.out)["results"].values()
    assert len(results) == 5
    assert all(result["versions"]["jax"] == jax.__version__ for result in results)
    elsewhere = dataclasses.replace(settings, workdir=settings.workdir / "elsewhere")
    assert comparison.compare("coc_nano", elsewhere) == row
    assert len(runs) == 5
    comparison.compare("coc_nano", dataclasses.replace(settings, seeds=3))
    assert runs[5:] == [("rate_0.01_seed_2", "images", "0.01", 2, 6.0)]


def test_results_of_other_settings_are_not_mixed(made):
    settings, _ = made
    with pytest.raises(UserError, match="other settings"):
        comparison.check_store(dataclasses.replace(settings, epochs=7))
    with pytest.raises(UserError, match="other settings"):
        comparison.check_store(dataclasses.replace(settings, models={"coc_nano": {"dims": (8,)}}))
    comparison.check_store(dataclasses.replace(settings, models={"another_nano": {}}))
    models = comparison.read_store(settings.out)["settings"]["models"]
    assert models.keys() == comparison.MODELS.keys() | {"another_nano"}


def test_the_page_has_the_table_of_the_stored_rows():
    rows = comparison.read_store(ROOT / "docs" / "comparison.json")["rows"]
    assert comparison.to_text(rows) in (ROOT / "docs" / "peers.md").read_text()


def test_all_images_are_not_trained_on_at_a_rate_that_diverges(made):
    settings, _ = made
    with pytest.raises(UserError, match="diverged on all images at 0.1"):
        comparison.train_on_all("coc_nano", "0.1", 0, settings)
    assert not comparison.read_store(settings.out)["results"]


def test_rows_stand_in_one_order_and_replace_their_former(made):
    settings, _ = made
    for name, top1 in (("vit_nano", 1), ("coc_nano", 1), ("vit_nano", 2)):
        comparison.keep_row({"model": name, "top1": [top1]}, settings)
    rows = comparison.read_store(settings.out)["rows"]
    assert [(row["model"], row["top1"]) for row in rows] == [("coc_nano", [1]), ("vit_nano", [2])]


def test_a_line_for_each_model():
    area = {"mean": 0.25, "interval": 0.01}
    row = {
        "model": "a",
        "parameters": 381825,
        "macs": 12_300_000,
        "train_images_per_s": 100.4,
        "infer_images_per_s": 400.0,
        "rate": 0.003,
        "top1": [0.5, 0.25],
        "top1_mean": 0.375,
        "explanations": {"methods": {"decision": {f"{c}_mean": area for c in CURVES}}},
    }
    lines = comparison.to_text([row, {**row, "cycles_per_image": 51_000}]).splitlines()
    assert lines[2] == (
        "| `a` | 381,825 | 12.3 M | 100 | 400 |  | 0.003 | 37.50 | 50.00, 25.00 "
        "| 0.2500 ± 0.0100 | 0.2500 ± 0.0100 |"
    )
    assert "| 400 | 51 k | 0.003 |" in lines[3]
    assert {line.count("|") for line in lines} == {12}
    assert "cycles" not in comparison.to_text([row])


def test_plain_models_have_decision_regions(known):
    """Of the features of their last level, as every family."""
    images = random_images(2, 32, 32, 3)
    settings = settings_of()
    for name in ("convolutional_nano", "vit_nano"):
        model = model_from_config(comparison.recipe_of(name, settings).model, num_classes=3)
        variables = random_variables(model, images)
        maps = compute_maps(model, variables, images)
        regions = decision_regions(maps, 4)
        assert regions.shape == (2, 32, 32)
        cells = maps.features.shape[1]
        # A pixel of the last level owns a square of the image.
        side = 32 // cells
        squares = regions.reshape(2, cells, side, cells, side)
        assert (squares == squares[:, :, :1, :, :1]).all()
        assert len({*regions[0].flatten().tolist()}) == 4


@pytest.mark.chaos
def test_quick_runs_the_whole_path_and_resumes(tmp_path, compiled_programs):
    command = [sys.executable, "-m", "benchmarks.comparison", "--quick", f"--workdir={tmp_path}"]
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": xla_flags(devices=1),
        "JAX_COMPILATION_CACHE_DIR": str(compiled_programs),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

    def run():
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout, json.loads((tmp_path / "comparison.json").read_text())

    output, result = run()
    assert output.count("/rate_0.001_seed_0: ") == 2
    assert [row["model"] for row in result["rows"]] == ["coc_nano", "vit_nano"]
    for row in result["rows"]:
        assert row["versions"]["jax"] == jax.__version__
        assert row["train_images_per_s"] > 0 and row["infer_images_per_s"] > 0
        assert 0 <= row["top1_mean"] == row["top1"][0] <= 1
        assert row["explanations"]["images"] == 4 and row["macs"] > row["parameters"] > 0
    table = comparison.to_text(result["rows"])
    assert table in output and table.count("\n| `") == 2
    again, same = run()
    assert "/rate_0.001" not in again and same == result
