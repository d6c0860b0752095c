"""The weights in the package: small, described by their cards, found by their names."""

import pathlib
import re

import jax
import numpy as np
import pytest
from PIL import Image

import cluenet_jax
from cluenet_jax.checkpoints.load import load
from cluenet_jax.cli import predict
from cluenet_jax.errors import UserError
from cluenet_jax.models import list_models
from cluenet_jax.pretrained import DEFAULT, card_file, list_pretrained, pretrained_file

NAMES = list_pretrained()


def test_there_is_a_default():
    assert DEFAULT in NAMES and cluenet_jax.list_pretrained() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_small_and_say_what_they_are(name):
    model, dataset = name.split(".")
    assert model in list_models() and pretrained_file(name).stat().st_size <= 2e6
    trained = cluenet_jax.load_pretrained(name)
    config = trained.metadata.config
    assert config["model"]["backbone"] == model
    assert config["data"]["name"] == trained.metadata.info.name == dataset
    # Nothing of the machine that they were trained on.
    assert config["data"]["dir"] == ""
    leaves = jax.tree.leaves(trained.variables)
    assert all(leaf.dtype == np.float32 and np.isfinite(leaf).all() for leaf in leaves)


@pytest.mark.parametrize("name", NAMES)
def test_the_card_agrees_with_the_checkpoint(name):
    metadata = load(name).metadata
    card = card_file(name).read_text()
    rows = dict(re.findall(r"^\| (\w+) \| ([\d.-]+) \|$", card, re.M))
    assert rows == {key: f"{value:.6g}" for key, value in metadata.metrics.items()}
    assert f"{metadata.step:,} steps" in card and f"seed {metadata.config['seed']}" in card
    assert f"--config.model.backbone={name.split('.')[0]}" in card
    assert ", ".join(metadata.info.class_names) in card and "license" in card


def test_a_prediction_names_classes():
    trained = cluenet_jax.load_pretrained(DEFAULT)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8))
    (result,) = trained.predict([trained.task.unlabeled_example(image)])
    entries = result.entries()
    assert {name for name, _ in entries} == set(trained.task.target_names)
    assert sum(score for _, score in entries) == pytest.approx(1, abs=1e-5)


def test_an_unknown_name_lists_the_names():
    with pytest.raises(UserError, match=f"No checkpoint in resnet.*{', '.join(NAMES)}"):
        cluenet_jax.load_pretrained("resnet.cifar100")


def test_the_readme_shows_what_is_printed(capsys):
    """Of scikit-image's photograph; probabilities to a tenth of a percent."""
    skimage = pytest.importorskip("skimage", reason="needs cluenet-jax[superpixels]")
    photograph = pathlib.Path(skimage.__file__).parent / "data" / "rocket.jpg"
    assert predict.main(["--max_entries=3", str(photograph)]) == 0
    printed = re.findall(r"([\d.]+)%  (\w+)", capsys.readouterr().out)
    readme = (pathlib.Path(__file__).parent.parent / "README.md").read_text()
    block = readme.split("predict --max_entries=3 rocket.jpg\n")[1].split("$ ")[0]
    shown = re.findall(r"([\d.]+)%  (\w+)", block)
    assert [name for _, name in printed] == [name for _, name in shown] and len(shown) == 3
    for (ours, _), (theirs, _) in zip(printed, shown, strict=True):
        assert float(ours) == pytest.approx(float(theirs), abs=0.1)
