"""Weights are put into the package with a card of the run's own records."""

import json
import pathlib
import re
import shlex

import jax
import numpy as np
import pytest

import cluenet_jax
from benchmarks.pretrained import write
from cluenet_jax.cli.recipes import load_recipe
from cluenet_jax.config import config_from_dict
from cluenet_jax.errors import UserError
from cluenet_jax.pretrained import card_file
from tests.helpers.checkpoints import small_checkpoint

ROOT = pathlib.Path(__file__).parent.parent.parent
NAME = "cluenet_nano.digits"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("pretrained") / "run"
    small_checkpoint(workdir)
    records = [
        {"step": 7, "epoch": 2.5},
        {"step": 7, "eval/top1": 0.5},
        {"step": 9, "eval/top1": 0.375},
    ]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (workdir / "metrics.jsonl").write_text(lines)
    return workdir


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder in place of the package's own."""
    monkeypatch.setattr(cluenet_jax.pretrained, "FOLDER", tmp_path)
    return tmp_path


def test_weights_are_found_by_their_name(workdir, package):
    write(str(workdir), NAME)
    assert cluenet_jax.list_pretrained() == [NAME]
    ours, theirs = (cluenet_jax.load_pretrained(path) for path in (NAME, str(workdir)))
    jax.tree.map(np.testing.assert_array_equal, ours.variables, theirs.variables)


def test_the_card_has_the_records_of_the_run(workdir, package):
    write(str(workdir), NAME)
    card = (package / f"{NAME}.md").read_text()
    assert "| top1 | 0.5 |" in card
    assert "7 steps of 128 images, 2.5 epochs; seed 0" in card
    assert "the best top1 of the run's evaluations, 2," in card and "the last: 0.3750" in card


def test_the_cards_command_gives_the_settings_of_the_run(workdir, package, monkeypatch):
    write(str(workdir), NAME)
    command = re.search(r"```bash\npython main.py (.*?)```", card_file(NAME).read_text(), re.S)
    *flags, last = shlex.split(command.group(1).replace("\\\n", ""))
    assert last == "--workdir=WORKDIR"
    monkeypatch.chdir(ROOT)
    config = load_recipe([flag.replace("=ROOT", "=") for flag in flags])
    metadata = cluenet_jax.load_pretrained(str(workdir)).metadata
    assert config.to_dict() == config_from_dict(metadata.config).to_dict()


def test_a_folder_of_images_is_said_to_be_the_dataset(tmp_path, workdir, package, monkeypatch):
    """Where the images lay on the machine of the run is not in the file."""
    from benchmarks import pretrained

    def load_of_folder(path):
        trained = cluenet_jax.load_pretrained(path)
        trained.metadata.config["data"].update(name="image_folder", dir="/secret")
        return trained

    monkeypatch.setattr(pretrained, "load", load_of_folder)
    write(str(workdir), NAME)
    data = cluenet_jax.load_pretrained(NAME).metadata.config["data"]
    assert data["name"] == "digits" and data["dir"] == ""
    card = (package / f"{NAME}.md").read_text()
    assert "/secret" not in card and "--config.data.dir=ROOT" in card


@pytest.mark.parametrize(
    "name, message",
    [("clustr_nano.digits", "the run trained cluenet_nano"), ("cluenet_nano.cifar100", "has 10")],
)
def test_another_name_is_refused(workdir, package, name, message):
    with pytest.raises(UserError, match=message):
        write(str(workdir), name)
    assert not [*package.iterdir()]


def test_a_step_alone_has_no_records(workdir, package):
    with pytest.raises(UserError, match=r"has no metrics\.jsonl.* give a workdir"):
        write(str(workdir / "checkpoints" / "7"), NAME)
    assert not [*package.iterdir()]


def test_what_is_too_large_is_not_written(workdir, package, monkeypatch):
    write(str(workdir), NAME)
    before = {path: path.read_bytes() for path in package.iterdir()}
    monkeypatch.setattr("benchmarks.pretrained.MAX_BYTES", 1000)
    with pytest.raises(UserError, match="the package takes 1,000"):
        write(str(workdir), NAME)
    assert {path: path.read_bytes() for path in package.iterdir()} == before, "nothing is lost"
