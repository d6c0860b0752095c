"""The tables of finished segmentation runs."""

from benchmarks import segmentation_runs


def test_a_line_for_each_run_and_each_class():
    row = {
        "agreement": None,
        "parameters": 1234,
        "epochs": 60.0,
        "miou": 0.5,
        "macc": 0.625,
        "aacc": 1.0,
    }
    runs = [
        {**row, "backbone": "a", "class_iou": {"Sky": 0.875, "Car": None}},
        {**row, "backbone": "b", "class_iou": {"Sky": 0.0, "Car": 0.25}},
    ]
    lines = segmentation_runs.tables(runs).splitlines()
    assert "| `a` | 1,234 | 60 | 50.0 % | 62.5 % | 100.0 % |" in lines
    assert lines[-4:-2] == ["| IoU | `a` | `b` |", "|---|---|---|"]
    assert lines[-2:] == ["| Sky | 87.5 % | 0.0 % |", "| Car |  | 25.0 % |"]


def test_a_line_for_each_partition_of_the_runs_that_were_compared():
    value = {"mean": 0.75, "low": 0.7, "high": 0.8}
    measures = {name: value for name in (*segmentation_runs.AGREEMENT, "nmi")}
    runs = [
        {"backbone": "a", "agreement": {"stage 1": measures, "stage 1, grid": measures}},
        {"backbone": "b", "agreement": None},
    ]
    lines = segmentation_runs.agreement_lines(runs)
    cells = " | ".join(["0.750 ± 0.050"] * 3)
    assert lines[-2:] == [f"| `a` | stage 1 | {cells} |", f"| `a` | stage 1, grid | {cells} |"]
    assert len({line.count("|") for line in lines if line}) == 1
    assert segmentation_runs.agreement_lines(runs[1:]) == []
