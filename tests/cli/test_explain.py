"""The numbers of an evaluation set."""

import json

import pytest

from cluenet_jax.cli import explain
from cluenet_jax.errors import UserError


def test_the_numbers_of_an_evaluation_set(checkpoint, tmp_path, capsys):
    file = tmp_path / "scores.json"
    explain.main([f"--checkpoint={checkpoint}", "--regions=2", "--batch_size=4", f"--json={file}"])
    assert json.loads(file.read_text())["images"] == 6  # all, the last batch is not full
    assert "of 6 images" in capsys.readouterr().out


def test_wrong_arguments():
    for flag in ("--regions=0", "--num_images=0", "--batch_size=0"):
        with pytest.raises(UserError, match=f"{flag} must be at least 1"):
            explain.main(["--checkpoint=nowhere", flag])
