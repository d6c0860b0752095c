"""The tables of finished segmentation runs."""

from benchmarks import segmentation_runs


def test_a_line_for_each_run_and_each_class():
    row = {"parameters": 1234, "epochs": 60.0, "miou": 0.5, "macc": 0.625, "aacc": 1.0}
    runs = [
        {**row, "backbone": "a", "class_iou": {"Sky": 0.875, "Car": None}},
        {**row, "backbone": "b", "class_iou": {"Sky": 0.0, "Car": 0.25}},
    ]
    lines = segmentation_runs.tables(runs).splitlines()
    assert "| `a` | 1,234 | 60 | 50.0 % | 62.5 % | 100.0 % |" in lines
    assert lines[-4:-2] == ["| IoU | `a` | `b` |", "|---|---|---|"]
    assert lines[-2:] == ["| Sky | 87.5 % | 0.0 % |", "| Car |  | 25.0 % |"]
