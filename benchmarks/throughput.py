"""Images per second of a model, in inference and training, against the same model in PyTorch.

    python -m benchmarks.throughput --model=cluenet_tiny --size=224 --batch=8 --peer=torch

Both sides run in processes of their own, which alternate: one waits while the other is measured.
A training step is forward, backward and AdamW. Reported are medians over the rounds, with the
spread (lowest and highest), and the ratio ours / peer of each round's pair; then the fraction of
our time that each stage takes, from the profiler.
"""

import argparse
import json
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import time
from importlib import metadata
from typing import TextIO

PEERS = {
    "torch": "eager, clusters by masks as the field writes them",
    "torch_tuned": "eager, gather and scatter, freed memory kept",
    "torch_compile": "torch.compile, gather and scatter",
}


def main() -> None:
    """Measures, prints a table, writes JSON."""
    args = parse()
    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
    if args.side:
        return serve(args)
    names = ["ours", "peer"] if args.peer else ["ours"]
    sides = {name: start(sys.argv[1:], name) for name in names}
    facts = {name: receive(side) for name, side in sides.items()}
    devices = {name: fact["device"] for name, fact in facts.items()}
    if len({device == "cpu" for device in devices.values()}) > 1:
        for side in sides.values():
            side.kill()
        sys.exit(f"Both sides must run on a CPU, or both on an accelerator, not {devices}.")
    tasks = facts["ours"]["tasks"]
    speeds = {(name, task): [] for name in sides for task in tasks}
    for _ in range(args.rounds):
        for task in tasks:
            for name, side in sides.items():
                speeds[name, task].append(ask(side, task)["images_per_s"])
    for name, side in sides.items():
        facts[name] |= ask(side, "end")
        side.wait()
    result = summary(args, facts, speeds, tasks)
    print(to_text(result))
    if args.json:
        with open(args.json, "w") as file:
            json.dump(result, file, indent=1)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="cluenet_mini_cifar")
    parser.add_argument("--size", type=int, default=32, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--peer", choices=tuple(PEERS), help="what to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each task in a round")
    parser.add_argument("--inference_only", action="store_true")
    parser.add_argument("--json", help="a file for all numbers")
    parser.add_argument("--side", choices=("ours", "peer"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if min(args.size, args.batch, args.rounds) < 1:
        parser.error("--size, --batch and --rounds must be at least 1.")
    return args


def start(arguments: list[str], side: str, errors: TextIO | None = None) -> subprocess.Popen:
    """A process that serves `ours` or `peer`; its error output goes to `errors`."""
    command = [sys.executable, __file__, *arguments, f"--side={side}"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True)


def ask(side: subprocess.Popen, task: str) -> dict:
    """The answer of a side to a task."""
    side.stdin.write(task + "\n")
    side.stdin.flush()
    return receive(side)


def receive(side: subprocess.Popen) -> dict:
    """The next line of a side; a ChildProcessError if it has ended."""
    line = side.stdout.readline()
    if not line:
        raise ChildProcessError(f"A side ended without an answer, code {side.wait()}.")
    return json.loads(line)


def serve(args: argparse.Namespace) -> None:
    """One side: prints its description, then measures each task it is asked for.

    At `end` it prints what took the time, and ends; it also ends with its input.
    """
    make = {"ours": ours, "peer": peer}[args.side]
    tasks, facts, programs = make(args)
    answers = sys.stdout
    print(json.dumps({**facts, "tasks": list(tasks)}), file=answers, flush=True)
    for line in sys.stdin:
        if line.strip() == "end":
            last = {"peak_bytes": peak_bytes(args)}
            if programs:
                from benchmarks.stages import time_fractions

                last["time_fractions"] = {
                    name: time_fractions(programs[name], tasks[name]) for name in tasks
                }
            print(json.dumps(last), file=answers, flush=True)
            return
        work, images = tasks[line.strip()], args.batch
        calls, start = 0, time.perf_counter()
        while calls < 2 or time.perf_counter() - start < args.seconds:
            work()
            calls += 1
        speed = calls * images / (time.perf_counter() - start)
        print(json.dumps({"images_per_s": speed}), file=answers, flush=True)


def peak_bytes(args: argparse.Namespace) -> int:
    """Bytes in use so far at most: of an accelerator's memory, or of this process on a CPU."""
    return device_peak(args) or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def device_peak(args: argparse.Namespace) -> int | None:
    """Bytes that were in use on an accelerator at most; None on a CPU."""
    if args.side == "ours":
        import jax

        stats = jax.local_devices()[0].memory_stats()
        return stats and stats.get("peak_bytes_in_use")
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def ours(args: argparse.Namespace) -> tuple[dict, dict, dict]:
    """Functions to measure by task, a description of this side, and the compiled programs."""
    import jax
    import jax.numpy as jnp
    import optax

    import cluenet_jax
    from cluenet_jax import runtime

    runtime.keep_freed_memory()
    model = cluenet_jax.create_model(args.model, dtype=args.dtype)
    shape = (args.batch, args.size, args.size, 3)
    images = jax.random.normal(jax.random.key(0), shape)
    labels = jnp.arange(args.batch) % model.head.num_classes
    params = jax.jit(model.init)(jax.random.key(0), images[:1])["params"]

    def infer(params, images):
        return model.apply({"params": params}, images)

    optimizer = optax.adamw(1e-4)

    def loss_fn(params, key):
        logits = model.apply({"params": params}, images, train=True, rngs={"dropout": key})
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def train(params, state, key):
        grads = jax.grad(loss_fn)(params, key)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    seconds = {}

    def compiled(name, function, *inputs, **options):
        start = time.perf_counter()
        program = jax.jit(function, **options).lower(*inputs).compile()
        seconds[name] = time.perf_counter() - start
        return program

    infer_step = compiled("infer", infer, params, images)
    programs = {"infer": infer_step}
    tasks = {"infer": lambda: jax.block_until_ready(infer_step(params, images))}
    tasks["infer"]()
    # Peaks only grow, and training needs more: read before there is anything of it.
    peaks = {"infer": peak_bytes(args)}
    if not args.inference_only:
        state = [jax.tree.map(jnp.copy, params), optimizer.init(params)]
        key = jax.random.key(1)
        step = compiled("train", train, *state, key, donate_argnums=(0, 1))
        programs["train"] = step

        def train_once():
            state[:] = jax.block_until_ready(step(*state, key))

        train_once()
        tasks["train"] = train_once
        peaks["train"] = peak_bytes(args)
    facts = {
        "library": f"jax {jax.__version__}",
        "device": jax.devices()[0].device_kind,
        "compile_s": seconds,
        "task_peak_bytes": peaks,
    }
    return tasks, facts, programs


def peer(args: argparse.Namespace) -> tuple[dict, dict, dict]:
    """As `ours`, without programs."""
    import contextlib

    import torch

    from cluenet_jax import runtime

    if args.peer == "torch_tuned":
        runtime.keep_freed_memory()

    from benchmarks import torch_peer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        # As JAX multiplies float32 on such GPUs unless it is told otherwise.
        torch.set_float32_matmul_precision("high")
    model = torch_peer.create_model(args.model, tuned=args.peer != "torch").to(device)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.05)
    forward = torch.compile(model) if args.peer == "torch_compile" else model
    images = torch.randn(args.batch, 3, args.size, args.size, device=device)
    labels = torch.arange(args.batch, device=device) % model.head.out_features
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=device == "cuda" or None)

    def mixed():
        if args.dtype == "float32":
            return contextlib.nullcontext()
        return torch.autocast(device, torch.bfloat16)

    def wait():
        if device == "cuda":
            torch.cuda.synchronize()

    def infer():
        model.eval()
        with torch.inference_mode(), mixed():
            forward(images)
        wait()

    def train():
        model.train()
        optimizer.zero_grad(set_to_none=True)
        with mixed():
            loss = torch.nn.functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        wait()

    tasks, seconds, peaks = {"infer": infer}, {}, {}
    if not args.inference_only:
        tasks["train"] = train
    for name, task in tasks.items():
        start = time.perf_counter()
        task()
        seconds[name] = time.perf_counter() - start
        task()
        peaks[name] = peak_bytes(args)
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    library = f"torch {torch.__version__}, {PEERS[args.peer]},"
    facts = {"library": library, "device": name, "compile_s": seconds, "task_peak_bytes": peaks}
    return tasks, facts, {}


def summary(args: argparse.Namespace, facts: dict, speeds: dict, tasks: list[str]) -> dict:
    """All numbers; ratios are ours over the peer's images/s, round by round."""
    result = {
        "model": args.model,
        "size": args.size,
        "batch": args.batch,
        "dtype": args.dtype,
        "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
        "versions": {n: metadata.version(n) for n in ("jax", "flax", "optax")},
        "rounds": args.rounds,
        "sides": {},
    }
    reported = ("library", "device", "compile_s", "peak_bytes", "time_fractions")
    for name, fact in facts.items():
        result["sides"][name] = {
            **{key: fact[key] for key in reported if key in fact},
            **{task: spread(speeds[name, task]) for task in tasks},
        }
    if "peer" in facts:
        for task in tasks:
            pairs = zip(speeds["ours", task], speeds["peer", task], strict=True)
            ratios = spread([a / b for a, b in pairs])
            result[f"{task}_ratio"] = ratios["median"]
            result[f"{task}_ratio_spread"] = [ratios["lowest"], ratios["highest"]]
    return result


def spread(values: list[float]) -> dict[str, float]:
    return {
        "median": statistics.median(values),
        "lowest": min(values),
        "highest": max(values),
    }


def to_text(result: dict) -> str:
    lines = [f"{result['model']} {result['size']}x{result['size']}, batch {result['batch']}, "
             f"{result['dtype']}, {result['rounds']} rounds"]  # fmt: skip
    for side in result["sides"].values():
        parts = [f"{side['library']} on {side['device']}:"]
        for task in ("infer", "train"):
            if task in side:
                s = side[task]
                parts.append(
                    f"{task} {s['median']:.1f} images/s ({s['lowest']:.1f} .. {s['highest']:.1f}), "
                    f"first call {side['compile_s'][task]:.1f} s;"
                )
        parts.append(f"peak {side['peak_bytes'] / 2**30:.2f} GiB")
        lines.append(" ".join(parts))
    for task, fractions in result["sides"]["ours"]["time_fractions"].items():
        parts = ", ".join(f"{part} {fraction:.0%}" for part, fraction in fractions.items())
        lines.append(f"{task}, our time by parts: {parts}")
    for task in ("infer", "train"):
        if f"{task}_ratio" in result:
            low, high = result[f"{task}_ratio_spread"]
            ratio = result[f"{task}_ratio"]
            lines.append(f"{task}: {ratio:.2f} times the peer ({low:.2f} .. {high:.2f})")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
