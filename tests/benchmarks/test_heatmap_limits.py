"""The metrics of perfect heatmaps: better in larger crops, and never below what is possible."""

import pytest

from benchmarks import heatmap_limits

RECIPE = "--config=configs/figures_pose.py"
FEW = "--config.data.eval_split=test[:30]"


def test_larger_crops_place_keypoints_better(capsys):
    sizes = "--sizes=32x24,64x48,128x96"
    heatmap_limits.main([RECIPE, FEW, sizes])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["32x24", "64x48", "128x96"]
    found = [float(line.split("ap ")[1].split(",")[0]) for line in lines]
    assert 0 < found[0] < found[1] < found[2] <= 1
    assert lines[-1].endswith("pck 1.000")


def test_a_finer_heatmap_is_as_good_as_a_larger_crop(capsys):
    heatmap_limits.main([RECIPE, FEW, "--sizes=64x48", "--stride=1"])
    heatmap_limits.main([RECIPE, FEW, "--sizes=128x96", "--stride=2"])
    fine, large = (line.split(": ")[1] for line in capsys.readouterr().out.splitlines())
    assert fine == large


def test_what_it_does_not_take(capsys):
    with pytest.raises(SystemExit, match="2"):
        heatmap_limits.main([RECIPE, "--sizes=64"])
    assert "expected HxW,HxW in pixels" in capsys.readouterr().err
    with pytest.raises(heatmap_limits.UserError, match="The recipe is for classification"):
        heatmap_limits.main(["--config=configs/digits.py"])
