"""Tools that are given no checkpoint take the weights in the package, and say so."""

import json

import pytest

from cluenet_jax.checkpoints.load import load
from cluenet_jax.cli import export, predict
from cluenet_jax.cli.checkpoints import checkpoint_or_default
from cluenet_jax.pretrained import DEFAULT, pretrained_file
from tests.helpers.images import smooth_image


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.png"
    smooth_image(0, 40, 50).save(path)
    return str(path)


def test_the_default_is_announced_in_one_line(capsys):
    assert checkpoint_or_default(None) == DEFAULT
    out, err = capsys.readouterr()
    metadata = load(DEFAULT).metadata
    assert out == "" and len(err.splitlines()) == 1
    for part in (DEFAULT, metadata.info.name, f"{metadata.metrics['top1']:.1%}", "--checkpoint="):
        assert part in err


def test_a_given_checkpoint_is_taken_quietly(capsys):
    assert checkpoint_or_default("runs/digits") == "runs/digits"
    assert capsys.readouterr() == ("", "")


def test_no_checkpoint_a_name_and_a_file_predict_the_same(image, capsys):
    outputs = []
    for checkpoint in (
        [],
        [f"--checkpoint={DEFAULT}"],
        [f"--checkpoint={pretrained_file(DEFAULT)}"],
    ):
        assert predict.main([*checkpoint, "--format=json", image]) == 0
        out, err = capsys.readouterr()
        assert bool(err) == (not checkpoint)
        outputs.append(json.loads(out))
    assert outputs[0] == outputs[1] == outputs[2]


def test_an_exported_file_is_a_checkpoint(converted, image, tmp_path, capsys):
    file = tmp_path / "model.safetensors"
    export.main([str(converted), str(file)])
    capsys.readouterr()
    outputs = []
    for checkpoint in (converted, file):
        predict.main([f"--checkpoint={checkpoint}", "--format=json", image])
        outputs.append(json.loads(capsys.readouterr().out))
    assert outputs[0] == outputs[1]
