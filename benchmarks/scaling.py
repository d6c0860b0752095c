"""Memory and time of one image against its side, ours and the PyTorch peer's.

    python benchmarks/scaling.py [--model=cluenet_tiny] [--sides 224 512 1024] [--plot=FILE.svg]

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
    parser.add_argument("--sides", type=int, nargs="+", default=[224, 512, 768, 1024, 1536])
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
        for size in args.sides:
            command = [
                sys.executable,
                __file__,
                f"--model={args.model}",
                "--point",
                side,
                str(size),
            ]
            run = subprocess.run(command, capture_output=True, text=True)
            if run.returncode:
                reason = (run.stderr.strip().splitlines() or [f"code {run.returncode}"])[-1]
                print(f"{side} {size}: failed ({reason[:100]})", flush=True)
                continue
            point = {"side": side, "size": size, **json.loads(run.stdout.splitlines()[-1])}
            points.append(point)
            print(
                f"{side} {size}: {point['seconds']:.2f} s, peak {point['peak_gib']:.2f} GiB, "
                f"{point['multiply_adds'] / 1e9:.1f} G multiply-adds",
                flush=True,
            )
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"model": args.model, "points": points}, file, indent=1)
    if args.plot:
        plot(args.model, points, args.plot)


def measure(model: str, side: str, size: int) -> dict:
    """Seconds (best of three) and the process's peak, of one image."""
    import cluenet_jax
    from cluenet_jax.models.registry import model_options

    network = cluenet_jax.create_model(model)
    whose, task, *remat = side.split()
    if whose == "ours":
        changed = cluenet_jax.create_model(model, remat=remat[0]) if remat else network
        work = ours(changed, size, task == "train")
    else:
        # Rather an error than a machine without memory.
        most = int(0.8 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        work = peer(model, model_options(model), size, whose == "torch_tuned")
    work()
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "seconds": min(seconds),
        "peak_gib": peak,
        "multiply_adds": all_multiply_adds(network, size),
    }


def all_multiply_adds(network, size: int) -> int:
    from cluenet_jax.summary import count_multiply_adds

    counts = count_multiply_adds(network, size)
    return int(counts["published"] + counts["others"])


def ours(network, size: int, train: bool):
    import jax
    import jax.numpy as jnp
    import optax

    from cluenet_jax import runtime

    runtime.keep_freed_memory()
    small = jnp.zeros((1, 64, 64, 3))
    params = jax.jit(network.init)(jax.random.key(0), small)["params"]
    images = jax.random.normal(jax.random.key(0), (1, size, size, 3))
    if not train:
        infer = jax.jit(lambda p, x: network.apply({"params": p}, x))
        return lambda: jax.block_until_ready(infer(params, images))
    optimizer = optax.adamw(1e-4)
    held = [params, optimizer.init(params)]

    @jax.jit
    def step(params, state):
        def loss_fn(p):
            rngs = {"dropout": jax.random.key(1)}
            return jax.nn.logsumexp(network.apply({"params": p}, images, train=True, rngs=rngs))

        updates, state = optimizer.update(jax.grad(loss_fn)(params), state, params)
        return optax.apply_updates(params, updates), state

    def work():
        held[:] = jax.block_until_ready(step(*held))

    return work


def peer(name: str, options: dict, size: int, tuned: bool):
    import torch

    from benchmarks import torch_peer
    from cluenet_jax import runtime

    if tuned:
        runtime.keep_freed_memory()
    model = torch_peer.build(name, options, tuned).eval()
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
    for panel, (key, words) in zip(
        panels, {"peak_gib": "peak memory of the process, GiB", "seconds": "seconds"}.items()
    ):
        for side in dict.fromkeys(point["side"] for point in points):
            own = [point for point in points if point["side"] == side]
            panel.plot([p["size"] for p in own], [p[key] for p in own], "o-", label=side)
        if key == "seconds":
            own = [p for p in points if p["side"] == "ours infer"]
            scale = own[-1][key] / own[-1]["multiply_adds"]
            panel.plot(
                [p["size"] for p in own], [p["multiply_adds"] * scale for p in own],
                "k:", label="in proportion to the multiply-adds",
            )  # fmt: skip
        panel.set(xlabel="side of the image, pixels", ylabel=words, yscale="log")
        panel.grid(True, alpha=0.3)
        panel.legend()
    figure.suptitle(f"{model}, one image, CPU")
    figure.savefig(path)


if __name__ == "__main__":
    main()
