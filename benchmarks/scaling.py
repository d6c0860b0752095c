"""Memory and time of one image against its size, ours and the PyTorch peer's.

    python -m benchmarks.scaling [--model=cluenet_tiny] [--sizes 224 512 1024] [--plot=FILE.svg]

Every point is a process of its own (so that its peak is its own); the peer needs torch, the
plot matplotlib.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="cluenet_tiny")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[224, 512, 768, 1024, 1536], help="sides in pixels"
    )
    parser.add_argument("--peer", choices=("torch", "torch_tuned"), help="also measure the peer")
    parser.add_argument("--train", action="store_true", help="also a step of training (ours)")
    parser.add_argument("--remat", nargs="*", default=[], help="and with these, dots or blocks")
    parser.add_argument("--json", help="a file for all numbers")
    parser.add_argument("--plot", help="an SVG or PNG file")
    parser.add_argument("--point", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
    if args.point:
        side, size = args.point
        return print(json.dumps(measure(args.model, side, int(size))))
    sides = ["ours infer"] + ["ours train"] * args.train
    sides += [f"ours train {remat}" for remat in args.remat]
    sides += [f"{args.peer} infer"] * bool(args.peer)
    points = []
    for side in sides:
        for size in args.sizes:
            point = measure_apart(args.model, side, size)
            points += [point] if point else []
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"model": args.model, "points": points}, file, indent=1)
    if args.plot:
        plot(args.model, points, args.plot)


def measure_apart(model: str, side: str, size: int) -> dict | None:
    """`measure` in a process of its own; None and a message if it fails."""
    command = [sys.executable, __file__, f"--model={model}", "--point", side, str(size)]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        reason = (run.stderr.strip().splitlines() or [f"code {run.returncode}"])[-1]
        print(f"{side} {size}: failed ({reason[:100]})", flush=True)
        return None
    point = {"side": side, "size": size, **json.loads(run.stdout.splitlines()[-1])}
    print(
        f"{side} {size}: {point['seconds']:.2f} s, peak {point['peak_gib']:.2f} GiB, "
        f"{point['macs'] / 1e9:.1f} G MACs",
        flush=True,
    )
    return point


def measure(name: str, side: str, size: int) -> dict:
    """Seconds (best of three), the process's peak and the MACs of one image."""
    from cluenet_jax import create_model
    from cluenet_jax.macs import count_macs

    model = create_model(name)
    library, task, *remat = side.split()
    if library == "ours":
        measured = create_model(name, remat=remat[0]) if remat else model
        work = ours(measured, size, task == "train")
    else:
        # Rather an error than a machine without memory.
        limit = int(0.8 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        work = peer(name, size, library == "torch_tuned")
    work()
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    counts = count_macs(model, size)
    macs = int(counts["published"] + counts["unpublished"])
    return {"seconds": min(seconds), "peak_gib": peak, "macs": macs}


def ours(model, size: int, train: bool):
    import jax
    import jax.numpy as jnp
    import optax

    from cluenet_jax import runtime

    runtime.keep_freed_memory()
    small = jnp.zeros((1, 64, 64, 3))
    params = jax.jit(model.init)(jax.random.key(0), small)["params"]
    images = jax.random.normal(jax.random.key(0), (1, size, size, 3))
    if not train:
        infer = jax.jit(lambda p, x: model.apply({"params": p}, x))
        return lambda: jax.block_until_ready(infer(params, images))
    optimizer = optax.adamw(1e-4)
    state = [params, optimizer.init(params)]

    @jax.jit
    def step(params, opt_state):
        def loss_fn(p):
            rngs = {"dropout": jax.random.key(1)}
            return jax.nn.logsumexp(model.apply({"params": p}, images, train=True, rngs=rngs))

        updates, opt_state = optimizer.update(jax.grad(loss_fn)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    def work():
        state[:] = jax.block_until_ready(step(*state))

    return work


def peer(name: str, size: int, tuned: bool):
    import torch

    from benchmarks import torch_peer
    from cluenet_jax import runtime

    if tuned:
        runtime.keep_freed_memory()
    model = torch_peer.create_model(name, tuned=tuned).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.05)
    images = torch.randn(1, 3, size, size)

    def work():
        with torch.inference_mode():
            model(images)

    return work


def plot(model: str, points: list[dict], path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for panel, (key, label) in zip(
        panels, {"peak_gib": "peak memory of the process, GiB", "seconds": "seconds"}.items()
    ):
        for side in dict.fromkeys(point["side"] for point in points):
            own = [point for point in points if point["side"] == side]
            panel.plot([p["size"] for p in own], [p[key] for p in own], "o-", label=side)
        if key == "seconds":
            own = [p for p in points if p["side"] == "ours infer"]
            scale = own[-1][key] / own[-1]["macs"]
            panel.plot(
                [p["size"] for p in own], [p["macs"] * scale for p in own],
                "k:", label="in proportion to the MACs",
            )  # fmt: skip
        panel.set(xlabel="side of the image, pixels", ylabel=label, yscale="log")
        panel.grid(True, alpha=0.3)
        panel.legend()
    figure.suptitle(f"{model}, one image, CPU")
    figure.savefig(path)


if __name__ == "__main__":
    main()
