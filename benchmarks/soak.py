"""Memory, open files and threads of a long run of `main.py` that trains, evaluates and saves.

    python -m benchmarks.soak --minutes=60 [-- flags of main.py]

Starts a run of the embedded digits without an end that decodes its images each time, evaluates and
saves twice an epoch, and reads from /proc every ten seconds its memory (on a CPU the devices' too),
open files, threads and child processes. Prints them by tenths of the time and how fast the memory
grew after the first tenth; the run is ended by SIGTERM. Linux only.
"""

import argparse
import contextlib
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parent.parent
EVERY = 10.0
NAMES = ("MiB", "files", "threads", "children", "step")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("flags", nargs="*", help="more flags of main.py")
    args = parser.parse_args()
    if args.minutes < 4:
        parser.error("--minutes must be at least 4: the table has ten rows.")
    with tempfile.TemporaryDirectory() as workdir:
        command = [
            sys.executable,
            "main.py",
            "--config=configs/digits.py",
            "--config.optim.epochs=1e6",
            "--config.data.cache=False",
            "--config.eval.every=0.5",
            "--config.checkpoint.every=0.5",
            f"--workdir={workdir}",
            *args.flags,
        ]
        log = pathlib.Path(workdir) / "log"
        with log.open("w") as output:
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        try:
            samples = watch(process, 60 * args.minutes, pathlib.Path(workdir) / "metrics.jsonl")
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=300)
        finally:
            process.kill()
        if code != 128 + signal.SIGTERM:
            sys.exit(f"The run ended with {code}:\n{log.read_text()[-4000:]}")
    print_table(samples)


def watch(
    process: subprocess.Popen, seconds: float, metrics: pathlib.Path
) -> list[tuple[float, ...]]:
    """A sample of the run every ten seconds, from its first step on."""
    samples = []
    end = None
    while process.poll() is None and (end is None or time.monotonic() < end):
        if end is None and metrics.exists() and metrics.stat().st_size:
            end = time.monotonic() + seconds
        if end is not None:
            with contextlib.suppress(FileNotFoundError):  # It ended just now.
                samples.append(sample(process.pid, metrics))
        time.sleep(EVERY)
    return samples


def sample(pid: int, metrics: pathlib.Path) -> tuple[float, ...]:
    """Memory in MiB, open files, threads, child processes, and the last step reported."""
    folder = pathlib.Path(f"/proc/{pid}")
    pages = int((folder / "statm").read_text().split()[1])
    children = (folder / "task" / str(pid) / "children").read_text().split()
    step = int(metrics.read_text().rsplit('{"step": ', 1)[1].split(",")[0])
    return (
        pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        len(os.listdir(folder / "fd")),
        len(os.listdir(folder / "task")),
        len(children),
        step,
    )


def print_table(samples: list[tuple[float, ...]]) -> None:
    """Medians and largest values by tenths of the time."""
    print("tenth  " + "  ".join(f"{name:>16}" for name in NAMES) + "   (median, largest)")
    tenth = len(samples) / 10
    for i in range(10):
        part = list(zip(*samples[round(i * tenth) : round((i + 1) * tenth)], strict=True))
        cells = [f"{statistics.median(v):>8.0f}{max(v):>8.0f}" for v in part]
        print(f"{i + 1:>5}  " + "  ".join(cells))
    settled = samples[round(tenth) :]
    hours = [i * EVERY / 3600 for i in range(len(settled))]
    fit = statistics.linear_regression(hours, [memory for memory, *_ in settled])
    print(f"Memory after the first tenth: {fit.slope:+.1f} MiB an hour.")


if __name__ == "__main__":
    main()
