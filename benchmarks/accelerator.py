"""Speed and memory of the models on the GPU or TPU at hand, against PyTorch where it runs there.

    python -m benchmarks.accelerator [--json=FILE] [--minutes=9] [--side_minutes=3] [--models=a,b]
        [--quick]

Images per second and peak device memory of inference and of training (forward, backward, AdamW)
for every published variant of CLUENet and ClusTR in bfloat16 and float32. The peers are the tuned
models of torch_peer.py, eager and with torch.compile, under autocast for bfloat16; in float32 both
sides may multiply in TF32. Each side of a row is a process of its own (throughput.py), one after
another on one device; every step is waited for. A side that does not fit the device's memory gets
half the batch, as often as needed. The rows of most interest come first. What fails, or what there
was no time for, is listed with its reason; the JSON is written after every side. `--quick` only
tries whether it works, with the smallest model, on a CPU too: its speeds mean nothing.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from importlib import metadata

import cluenet_jax
from benchmarks import throughput

# Each side and its arguments for throughput.py.
SIDES = {"ours": [], "eager": ["--peer=torch_tuned"], "compiled": ["--peer=torch_compile"]}
TASKS = {"infer": "inference", "train": "training"}
DTYPES = ["bfloat16", "float32"]
QUICK = ["cluenet_nano"]
_FAMILIES = ("cluenet_", "clustr_")
_FIRST = ["cluenet_mini_cifar", "cluenet_tiny", "clustr_b1"]
_NO_TIME = "no time left"
_JAX_DEVICE = "import jax; d = jax.devices()[0]; print(d.platform, d.device_kind, sep='\\n')"
_TORCH_DEVICE = "import torch; print('gpu' if torch.cuda.is_available() else 'cpu')"
_ERROR = re.compile(r"^[\w.]*(Error|Exception|Interrupt)\b.*")
_OUT_OF_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|OUT_OF_MEMORY|ALLOC_FAILED|out of memory", re.I)


def main() -> None:
    """Measures, prints a table, writes JSON."""
    args, parser = parse()
    kind, device = find_device(parser)
    if kind == "cpu" and not args.quick:
        parser.exit(
            2,
            "Error: JAX finds no GPU or TPU here, only a CPU. Install JAX for it "
            "(`pip install 'jax[cuda13]'` or `'jax[tpu]'`), or try --quick.\n",
        )
    if kind == "cpu":
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
        os.environ["XLA_FLAGS"] = flags
    result = {
        "device": device,
        "quick": args.quick,
        "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
        "versions": {name: metadata.version(name) for name in ("jax", "flax", "optax")},
        "rounds": 1 if args.quick else 3,
        "seconds": 0.05 if args.quick else 1.0,
        "side_minutes": args.side_minutes,
        "rows": plan(args, missing_peer(kind)),
    }
    measure(result, time.monotonic() + 60 * args.minutes, args.json)
    print(to_text(result))


def parse() -> tuple[argparse.Namespace, argparse.ArgumentParser]:
    """The arguments, and their parser."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=pathlib.Path, help="a file for all numbers")
    parser.add_argument("--quick", action="store_true", help="the smallest model, one short round")
    parser.add_argument("--minutes", type=float, default=9.0, help="for all of it")
    parser.add_argument("--side_minutes", type=float, default=3.0, help="for a side of a row")
    parser.add_argument("--models", type=lambda text: text.split(","), help="such as a,b; or all")
    parser.add_argument("--batch", type=int, default=64, help="of images of 224 pixels")
    args = parser.parse_args()
    if min(args.minutes, args.side_minutes, args.batch) <= 0:
        parser.error("--minutes, --side_minutes and --batch must be positive.")
    for name in set(args.models or ()) - {*cluenet_jax.list_models()}:
        known = ", ".join(cluenet_jax.list_models())
        parser.error(f"--models: there is no {name!r}. Models: {known}.")
    return args, parser


def find_device(parser: argparse.ArgumentParser) -> tuple[str, str]:
    """JAX's kind of device (`cpu`, `gpu` or `tpu`) and its name, asked in another process."""
    run = subprocess.run([sys.executable, "-c", _JAX_DEVICE], capture_output=True, text=True)
    if run.returncode:
        parser.exit(2, f"Error: JAX does not start: {reason_of(run.stderr)}\n")
    kind, name = run.stdout.splitlines()[-2:]
    return kind, name


def missing_peer(kind: str) -> str | None:
    """Why PyTorch cannot be measured on this kind of device; None if it can."""
    run = subprocess.run([sys.executable, "-c", _TORCH_DEVICE], capture_output=True, text=True)
    if run.returncode:
        return f"PyTorch cannot be imported ({reason_of(run.stderr)})"
    found = run.stdout.split()[-1]
    return None if found == kind else f"PyTorch finds a {found.upper()}, JAX a {kind.upper()}"


def plan(args: argparse.Namespace, no_peer: str | None) -> list[dict]:
    """The rows in the order of measuring, with reasons for figures instead of figures."""
    known = (name for name in cluenet_jax.list_models() if name.startswith(_FAMILIES))
    variants = [name for name in known if not name.endswith("_nano")]
    names = args.models or (QUICK if args.quick else variants)
    if args.quick:
        return [new_row(name, DTYPES[0], args, no_peer) for name in names]
    # Those of most interest in both types, then the others.
    first = [name for name in _FIRST if name in names]
    others = [name for name in names if name not in first]
    rows = []
    for group in (first, others):
        for dtype in DTYPES:
            rows += [new_row(name, dtype, args, no_peer) for name in group]
    return rows


def new_row(model: str, dtype: str, args: argparse.Namespace, no_peer: str | None) -> dict:
    """A row without figures."""
    small = args.quick or model.endswith(("_cifar", "_nano"))
    sides = {side: {"not_measured": _NO_TIME} for side in SIDES}
    if args.quick:
        sides["compiled"] = {"not_measured": "left out of --quick"}
    if no_peer:
        sides |= {side: {"not_measured": no_peer} for side in ("eager", "compiled")}
    return {
        "model": model,
        "size": 32 if small else 224,
        "batch": 4 if args.quick else 256 if small else args.batch,
        "dtype": dtype,
        "sides": sides,
    }


def measure(result: dict, deadline: float, path: pathlib.Path | None) -> None:
    """Fills all rows with figures, as long as there is time."""
    _write(result, path)
    for row in result["rows"]:
        for side, figures in row["sides"].items():
            if figures["not_measured"] != _NO_TIME or time.monotonic() >= deadline:
                continue
            row["sides"][side] = measure_side(result, row, side, deadline)
            _write(result, path)
            print(_progress(row, side), file=sys.stderr, flush=True)


def measure_side(result: dict, row: dict, side: str, deadline: float) -> dict:
    """The figures of a side, at the largest half, quarter and so on of the batch that fits."""
    batch = row["batch"]
    while True:
        figures = run_side(result, {**row, "batch": batch}, side, deadline)
        if batch == 1 or not _OUT_OF_MEMORY.search(figures.get("not_measured", "")):
            return figures
        batch //= 2


def run_side(result: dict, row: dict, side: str, deadline: float) -> dict:
    """The figures of a process that measures a side, or the reason that there are none."""
    arguments = [f"--{name}={row[name]}" for name in ("model", "size", "batch", "dtype")]
    arguments += [f"--seconds={result['seconds']}", *SIDES[side]]
    # One long compilation must not take the time of all others.
    limit = min(deadline, time.monotonic() + 60 * result["side_minutes"])
    with tempfile.TemporaryFile("w+") as errors:
        process = throughput.start(arguments, "ours" if side == "ours" else "peer", errors)
        timer = threading.Timer(max(0.0, limit - time.monotonic()), process.kill)
        timer.start()
        try:
            return {"batch": row["batch"], **ask_all(process, result["rounds"])}
        except (OSError, ValueError) as error:  # It has ended, or printed what is no JSON.
            if time.monotonic() >= deadline:
                return {"not_measured": _NO_TIME}
            if time.monotonic() >= limit:
                return {"not_measured": f"took more than {result['side_minutes']} minutes"}
            errors.seek(0)
            return {"not_measured": reason_of(errors.read()) or str(error)}
        finally:
            timer.cancel()
            process.kill()
            process.wait()


def ask_all(process: subprocess.Popen, rounds: int) -> dict:
    """The figures that a side's process gives."""
    facts = throughput.receive(process)
    speeds = {task: [] for task in facts["tasks"]}
    for _ in range(rounds):
        for task, values in speeds.items():
            values.append(throughput.ask(process, task)["images_per_s"])
    # It ends with its input; one that is killed may leave a TPU locked.
    process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=30)
    return {
        "library": facts["library"].rstrip(","),
        "device": facts["device"],
        "compile_s": facts["compile_s"],
        "peak_bytes": facts["task_peak_bytes"],
        **{task: throughput.spread(values) for task, values in speeds.items()},
    }


def reason_of(errors: str) -> str:
    """The line of a process's error output that says what was wrong."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    named = [line for line in lines if _ERROR.match(line)]
    return (named or lines or [""])[-1][:200]


def to_text(result: dict) -> str:
    """A table in Markdown, and what is not in it."""
    lines = [
        "| model | task | ours, images/s | PyTorch eager | PyTorch compiled | ours / eager "
        "| ours / compiled | peak memory, GiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        lines += [table_line(row, task) for task in TASKS]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines += [
        "",
        f"{result['device']}; {result['machine']}; {versions}. Medians of {result['rounds']} "
        f"rounds, in brackets lowest and highest; memory of ours / eager / compiled, in "
        f"{'the process' if result['device'] == 'cpu' else 'use on the device'}.",
    ]
    if result["quick"]:
        lines.append("A quick try, compiled without optimizing on a CPU: the speeds mean nothing.")
    missing = [*not_measured(result["rows"])]
    return "\n".join(lines + (["", "Not measured:", *missing] if missing else []))


def table_line(row: dict, task: str) -> str:
    """A line of the table."""
    sides = row["sides"]
    name = f"`{row['model']}`, {row['size']}², batch {row['batch']}, {row['dtype']}"
    cells = [name, TASKS[task]]
    cells += [_speed(figures, task, row["batch"]) for figures in sides.values()]
    cells += [_ratio(sides["ours"], sides[peer], task) for peer in ("eager", "compiled")]
    cells.append(" / ".join(_memory(figures, task) for figures in sides.values()))
    return f"| {' | '.join(cells)} |"


def not_measured(rows: list[dict]):
    """A line for every reason: what it is the reason for."""
    reasons = {}
    for row in rows:
        for side, figures in row["sides"].items():
            if "not_measured" in figures:
                where = f"{row['model']} {row['dtype']} {side}"
                reasons.setdefault(figures["not_measured"], []).append(where)
    for reason, where in reasons.items():
        yield f"- {reason}: {', '.join(where)}"


def _speed(figures: dict, task: str, batch: int) -> str:
    if task not in figures:
        return "not measured"
    speed = figures[task]
    spread = f"{speed['lowest']:.0f} … {speed['highest']:.0f}"
    smaller = "" if figures["batch"] == batch else f", batch {figures['batch']}"
    return f"{speed['median']:.0f} ({spread}){smaller}"


def _ratio(ours: dict, peer: dict, task: str) -> str:
    if task not in ours or task not in peer:
        return "–"
    return f"**{ours[task]['median'] / peer[task]['median']:.2f}**"


def _memory(figures: dict, task: str) -> str:
    return f"{figures['peak_bytes'][task] / 2**30:.2f}" if task in figures else "–"


def _progress(row: dict, side: str) -> str:
    figures = row["sides"][side]
    name = f"{row['model']} {row['dtype']} {side}"
    if "not_measured" in figures:
        return f"{name}: not measured ({figures['not_measured']})"
    speeds = [f"{TASKS[task]} {_speed(figures, task, row['batch'])}" for task in TASKS]
    return f"{name}: {', '.join(speeds)} images/s"


def _write(result: dict, path: pathlib.Path | None) -> None:
    if path:
        # A run that is killed here leaves the file as it was.
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(result, indent=1) + "\n")
        partial.replace(path)


if __name__ == "__main__":
    main()
