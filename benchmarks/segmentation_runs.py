"""Finished segmentation runs side by side: curves, a table of their scores, one of each class.

    python -m benchmarks.segmentation_runs WORKDIR ... --name=camvid [--clusters=N]

Evaluates each run's last checkpoint on its data (those of benchmarks.convolutional too), and writes
docs/NAME.json, the curves docs/NAME.svg (needs matplotlib) and the tables between the marks NAME
of docs/segmentation.md. `--clusters` also compares the clusters of N images with their masks,
beside a grid and SLIC superpixels of as many parts (needs scikit-image).
"""

import argparse
import json
import math
import pathlib
import sys
from typing import Any

import jax

from benchmarks import plain
from benchmarks.table import ROOT, with_table
from cluenet_jax.checkpoints.load import load
from cluenet_jax.cli.explanations import compare_with_masks
from cluenet_jax.cli.main import run
from cluenet_jax.evaluation import evaluate_checkpoint

# Measures of `explain.mask_agreement`, and what they are called here.
AGREEMENT = {
    "asa": "achievable accuracy ↑",
    "undersegmentation": "undersegmentation ↓",
    "boundary_recall": "boundary recall ↑",
}
PAGE = ROOT / "docs" / "segmentation.md"


def main(argv: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("workdirs", nargs="+", type=pathlib.Path)
    parser.add_argument("--name", required=True, help="such as camvid")
    parser.add_argument("--clusters", type=int, default=0, metavar="N", help="images to compare")
    args = parser.parse_args(argv)
    plain.register()
    runs = [read_run(workdir, args.clusters) for workdir in args.workdirs]
    (ROOT / "docs" / f"{args.name}.json").write_text(json.dumps(runs, indent=1) + "\n")
    plot(runs, str(ROOT / "docs" / f"{args.name}.svg"))
    PAGE.write_text(with_table(PAGE.read_text(), args.name, tables(runs)))


def read_run(workdir: pathlib.Path, num_compared: int = 0) -> dict[str, Any]:
    """What is known of a finished run; its last checkpoint is evaluated once more.

    Args:
      workdir: Of the run.
      num_compared: Images whose clusters are compared with their masks.
    """
    latest = max((workdir / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    trained = load(str(latest))
    scores = evaluate_checkpoint(str(latest)).to_json()
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    epochs = trained.metadata.config["optim"]["epochs"]
    last = max(record["step"] for record in records)
    backbone = trained.metadata.config["model"]["backbone"]
    agreement = None
    if num_compared and backbone.split("_")[0] not in plain.PLAIN:
        agreement = compare_with_masks(trained, num_compared).compute()
    return {
        "backbone": backbone,
        "agreement": agreement,
        "parameters": sum(
            math.prod(leaf.shape) for leaf in jax.tree.leaves(trained.variables["params"])
        ),
        "epochs": epochs,
        "curve": [
            {"epoch": record["step"] / last * epochs, "miou": record["eval/miou"]}
            for record in records
            if "eval/miou" in record
        ],
        **{name: scores[name] for name in ("miou", "macc", "aacc", "class_iou")},
    }


def tables(runs: list[dict[str, Any]]) -> str:
    """A line for each run, then a line for each class."""
    lines = [
        "| backbone | parameters with the head | epochs | mIoU | mAcc | aAcc |",
        "|---|---|---|---|---|---|",
    ]
    for row in runs:
        scores = " | ".join(_percent(row[name]) for name in ("miou", "macc", "aacc"))
        lines.append(
            f"| `{row['backbone']}` | {row['parameters']:,} | {row['epochs']:g} | {scores} |"
        )
    names = " | ".join(f"`{row['backbone']}`" for row in runs)
    lines += ["", f"| IoU | {names} |"]
    lines.append("|---" * (len(runs) + 1) + "|")
    for name in runs[0]["class_iou"]:
        cells = " | ".join(_percent(row["class_iou"][name]) for row in runs)
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines + agreement_lines(runs)) + "\n"


def agreement_lines(runs: list[dict[str, Any]]) -> list[str]:
    """For each stage what a run's clusters, a grid and superpixels achieve; of those compared."""
    lines = []
    for row in (row for row in runs if row.get("agreement")):
        for partition, measures in row["agreement"].items():
            cells = (
                f"{measures[name]['mean']:.3f} ± "
                f"{(measures[name]['high'] - measures[name]['low']) / 2:.3f}"
                for name in AGREEMENT
            )
            lines.append(f"| `{row['backbone']}` | {partition} | {' | '.join(cells)} |")
    if not lines:
        return []
    head = f"| backbone | partition | {' | '.join(AGREEMENT.values())} |"
    return ["", head, "|---|---" + "|---" * len(AGREEMENT) + "|", *lines]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}".replace("%", " %")


def plot(runs: list[dict[str, Any]], path: str) -> None:
    """mIoU of the evaluation set after each evaluated epoch."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panel = pyplot.subplots(figsize=(6, 3.5), layout="constrained")
    for row in runs:
        epochs = [point["epoch"] for point in row["curve"]]
        scores = [100 * point["miou"] for point in row["curve"]]
        panel.plot(epochs, scores, "o-", label=row["backbone"])
    panel.set(xlabel="epoch", ylabel="mIoU, %")
    panel.grid(True, alpha=0.3)
    panel.legend()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    run(main, sys.argv[1:])
