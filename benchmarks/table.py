"""All of docs/performance.md's speed table: `make bench`.

    python benchmarks/table.py [--rounds=5]

Runs throughput.py for every row and peer (needs torch), and writes docs/throughput.json and
the table between the two marks of docs/performance.md.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parent.parent
ROWS = [("cluenet_mini_cifar", 32, 64), ("cluenet_tiny", 224, 8), ("clustr_b1", 224, 8)]
PEERS = ("torch", "torch_tuned")
BEGIN, END = "<!-- throughput: begin -->\n", "<!-- throughput: end -->\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    results = []
    for model, size, batch in ROWS:
        for peer in PEERS:
            with tempfile.NamedTemporaryFile(suffix=".json") as file:
                command = [sys.executable, str(ROOT / "benchmarks" / "throughput.py")]
                command += [f"--model={model}", f"--size={size}", f"--batch={batch}"]
                command += [f"--peer={peer}", f"--rounds={rounds}", f"--json={file.name}"]
                subprocess.run(command, check=True)
                results.append({"against": peer, **json.load(open(file.name))})
    (ROOT / "docs" / "throughput.json").write_text(json.dumps(results, indent=1) + "\n")
    page = ROOT / "docs" / "performance.md"
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(before + BEGIN + to_markdown(results) + END + rest.partition(END)[2])


def to_markdown(results: list[dict]) -> str:
    lines = [
        "| network | peer | inference (ours / peer) | ratio | training | ratio | peak memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        ours, peer = result["sides"]["ours"], result["sides"]["peer"]
        cells = [
            f"`{result['model']}`, {result['size']}², batch {result['batch']}",
            peer["library"].rstrip(","),
        ]
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
        f"\n{first['machine']}, {first['sides']['ours']['device']}, {versions}; medians of "
        f"{first['rounds']} rounds, in brackets the lowest and highest ratio of a round."
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
