"""Time and memory of detection on an image of COCO's size: clustering of whole maps and in parts.

    python -m benchmarks.large_image [--model=clustr_b1] [--height=800] [--width=1344]
        [--parts=8,4,2,1]

A forward pass from random weights: of whole maps first, then with `cluster_parts` if `--parts` are
given; each in a process of its own, so that its peak is its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import jax

from cluenet_jax.cli.main import run
from cluenet_jax.models import create_model

NUM_CLASSES = 80


def main(argv: list[str]) -> None:
    """Prints a line for each form."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="clustr_b1")
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--width", type=int, default=1344)
    parser.add_argument("--parts", help="of each stage, such as 8,4,2,1; a ClusTR's")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        print(json.dumps(measure(args.model, args.height, args.width, args.parts)))
        return
    image = [f"--model={args.model}", f"--height={args.height}", f"--width={args.width}"]
    command = [sys.executable, "-m", "benchmarks.large_image", "--child", *image]
    forms = {"whole maps": []}
    if args.parts:
        forms[args.parts] = [f"--parts={args.parts}"]
    for form, flags in forms.items():
        done = subprocess.run([*command, *flags], stdout=subprocess.PIPE, text=True, check=True)
        point = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{args.model}, {args.height}x{args.width}, {form}: {point['seconds']:.1f} s, "
            f"peak of the process {point['peak_gib']:.2f} GiB",
            flush=True,
        )


def measure(name: str, height: int, width: int, parts: str | None) -> dict[str, float]:
    """Seconds of the second pass, and the process's peak."""
    options = {} if parts is None else {"cluster_parts": tuple(map(int, parts.split(",")))}
    model = create_model(name, NUM_CLASSES, "mask_rcnn", **options)
    images = jax.random.normal(jax.random.key(0), (1, height, width, 3))
    variables = jax.jit(model.init)(jax.random.key(1), images[:, :64, :64])
    detect = jax.jit(lambda variables, images: model.apply(variables, images))
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        jax.block_until_ready(detect(variables, images))
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds[-1], "peak_gib": peak}


if __name__ == "__main__":
    run(main, sys.argv[1:])
