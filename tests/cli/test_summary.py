"""The summary of a model."""

import pytest

from cluenet_jax.cli import summary
from cluenet_jax.errors import UserError


def test_summary_prints_modules_and_totals(capsys):
    summary.main(["cluenet_nano", "--image_size=32", "--depth=2"])
    out = capsys.readouterr().out
    assert "stage3_block1" in out and "373,095" in out and "M MACs" in out
    with pytest.raises(UserError, match="Did you mean 'cluenet_nano'"):
        summary.main(["cluenet_nan"])
