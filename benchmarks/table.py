"""The tables of measured figures in README.md and docs/performance.md: `make bench`.

    python -m benchmarks.table [--rounds=5] [--only_write]

Runs throughput.py for every row and peer (needs torch), writes docs/throughput.json, and from it
and docs/scaling.json (of scaling.py) the tables between the marks of both pages. `--only_write`
measures nothing and writes the tables of the files that are there.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parent.parent
README, PAGE = ROOT / "README.md", ROOT / "docs" / "performance.md"
THROUGHPUT, SCALING = ROOT / "docs" / "throughput.json", ROOT / "docs" / "scaling.json"
ROWS = [("cluenet_mini_cifar", 32, 64), ("cluenet_tiny", 224, 8), ("clustr_b1", 224, 8)]
PEERS = ("torch", "torch_tuned")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only_write", action="store_true", help="measure nothing")
    args = parser.parse_args()
    if not args.only_write:
        results = [measure(*row, peer, args.rounds) for row in ROWS for peer in PEERS]
        THROUGHPUT.write_text(json.dumps(results, indent=1) + "\n")
    for page in (README, PAGE):
        page.write_text(with_tables(page))


def measure(model: str, size: int, batch: int, peer: str, rounds: int) -> dict:
    """The numbers of one row."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, str(ROOT / "benchmarks" / "throughput.py")]
        command += [f"--model={model}", f"--size={size}", f"--batch={batch}"]
        command += [f"--peer={peer}", f"--rounds={rounds}", f"--json={file.name}"]
        subprocess.run(command, check=True)
        return {"against": peer, **json.load(open(file.name))}


def with_tables(page: pathlib.Path) -> str:
    """The text of README or PAGE with the tables of the measured figures."""
    throughput = json.loads(THROUGHPUT.read_text())
    scaling = json.loads(SCALING.read_text())
    tables = {"throughput": ratio_table(throughput)}
    if page == PAGE:
        tables = {"throughput": full_table(throughput), "scaling": scaling_table(scaling)}
    text = page.read_text()
    for name, table in tables.items():
        text = with_table(text, name, table)
    return text


def with_table(text: str, name: str, table: str) -> str:
    """The text with a table between the marks of that name."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    before, _, after = text.partition(begin)
    return before + begin + table + end + after.partition(end)[2]


def ratio_table(results: list[dict]) -> str:
    """Median ratios alone, a row per model."""
    lines = [
        "| images/s, ours / PyTorch | inference, eager | training, eager | inference, tuned "
        "| training, tuned |",
        "|---|---|---|---|---|",
    ]
    for first, second in zip(results[::2], results[1::2], strict=True):
        ratios = [r[f"{task}_ratio"] for r in (first, second) for task in ("infer", "train")]
        cells = [_row_name(first), *(f"{ratio:.1f}" for ratio in ratios)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def full_table(results: list[dict]) -> str:
    """Speeds, ratios with their spread, and memory; a row per model and peer."""
    lines = [
        "| model | peer | inference (ours / peer) | ratio | training | ratio | peak memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        ours, peer = result["sides"]["ours"], result["sides"]["peer"]
        cells = [_row_name(result), peer["library"].rstrip(",")]
        for task in ("infer", "train"):
            low, high = result[f"{task}_ratio_spread"]
            cells.append(f"{ours[task]['median']:.1f} / {peer[task]['median']:.1f}")
            cells.append(f"**{result[f'{task}_ratio']:.2f}** ({low:.2f} … {high:.2f})")
        peaks = (side["peak_bytes"] / 2**30 for side in (ours, peer))
        cells.append(" / ".join(f"{peak:.1f}" for peak in peaks) + " GiB")
        lines.append("| " + " | ".join(cells) + " |")
    first = results[0]
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    lines.append(
        f"\nImages per second; {first['machine']}, {first['sides']['ours']['device']}, {versions}; "
        f"medians of {first['rounds']} rounds, in brackets the lowest and highest ratio of a round."
    )
    return "\n".join(lines) + "\n"


def scaling_table(results: dict) -> str:
    """Time, memory and MACs of one image; a row per size."""
    lines = [
        f"| `{results['model']}`, one image | inference | peak | tuned peer | its peak "
        "| training step | peak | MACs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    points = {(point["side"], point["size"]): point for point in results["points"]}
    for size in dict.fromkeys(size for _, size in points):
        cells = [f"{size}²"]
        for side in ("ours infer", "torch_tuned infer", "ours train"):
            point = points.get((side, size))
            time_and_peak = ["out of memory", ""]
            if point:
                time_and_peak = [f"{point['seconds']:.2f} s", f"{point['peak_gib']:.1f} GiB"]
            cells += time_and_peak
        cells.append(f"{points['ours infer', size]['macs'] / 1e9:.3g} G")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _row_name(result: dict) -> str:
    return f"`{result['model']}`, {result['size']}², batch {result['batch']}"


if __name__ == "__main__":
    main()
