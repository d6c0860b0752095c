"""A plain vision transformer of the same size, compiled as ours are: what a step could cost.

    python -m benchmarks.yardstick [--topology=v5e:2x2] [--model=cluenet_tiny] [--json=FILE]

ViT-Ti/16 and a variant, each in the same training step (cross entropy, AdamW, in place) on the
same slice of TPUs, by the estimates of XLA's compiler: parameters, cycles, bytes, temporaries, and
the ratio of the cycles. Nothing is run; libtpu is needed, and 5 to 15 minutes of CPU for each
program. `--model=none` compiles the transformer alone.
"""

import argparse
import functools
import json
import math
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

import cluenet_jax
from benchmarks.vit import VisionTransformer
from cluenet_jax.cli.main import run
from cluenet_jax.compile.programs import CompiledProgram, compile_step
from cluenet_jax.compile.topologies import find_topology
from cluenet_jax.models.backbones.family import DTYPES
from cluenet_jax.models.heads.linear import LinearHead
from cluenet_jax.models.model import Model
from cluenet_jax.train import sharding
from cluenet_jax.train.programs import with_sharding


def vit(num_classes: int, **options: Any) -> Model:
    """A plain vision transformer, by default ViT-Ti/16, and a head over the mean of all tokens.

    Args:
      num_classes: Width of the logits.
      **options: Fields of `VisionTransformer`.
    """
    backbone = VisionTransformer(**options)
    return Model(backbone, LinearHead(backbone.channels, num_classes))


def main(argv: list[str]) -> None:
    """Compiles, prints a table, writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--topology", default="v5e:2x2")
    parser.add_argument("--model", default="cluenet_tiny", help="a variant, or none")
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=32, help="images a device")
    parser.add_argument("--num_classes", type=int, default=100)
    parser.add_argument("--dtype", choices=[*DTYPES], default="bfloat16")
    parser.add_argument("--json", type=pathlib.Path, help="a file for all numbers")
    args = parser.parse_args(argv)
    models = {"ViT-Ti/16": vit(args.num_classes, dtype=DTYPES[args.dtype])}
    if args.model != "none":
        try:
            model = cluenet_jax.create_model(args.model, args.num_classes, dtype=args.dtype)
        except ValueError as error:
            parser.error(f"--model: {error}")
        models[args.model] = model
    topology = find_topology(args.topology)
    mesh = sharding.make_mesh(topology.devices())
    jax.config.update("jax_enable_compilation_cache", False)
    rows = []
    for name, model in models.items():
        program, num_parameters = compile_training(model, mesh, args.size, args.batch)
        rows.append({"model": name, "parameters": num_parameters, **figures(program)})
        print(f"{name}: compiled in {program.seconds:.0f} s", flush=True)
    result = {"topology": topology.name, "dtype": args.dtype, "size": args.size}
    result |= {"batch_per_device": args.batch, "rows": rows}
    print(to_text(result))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


def compile_training(
    model: nn.Module, mesh: jax.sharding.Mesh, size: int, batch_per_device: int
) -> tuple[CompiledProgram, int]:
    """The training step of a model on a mesh, and the number of its parameters."""
    optimizer = optax.adamw(1e-3)
    images = jax.ShapeDtypeStruct((batch_per_device * mesh.size, size, size, 3), jnp.float32)
    labels = jax.ShapeDtypeStruct(images.shape[:1], jnp.int32)
    state = jax.eval_shape(functools.partial(new_state, model, optimizer, size), jax.random.key(0))
    replicated = sharding.replicated(mesh)
    state = with_sharding(state, replicated)
    batch = with_sharding({"image": images, "label": labels}, sharding.split_batch(mesh))
    step = jax.jit(train_step(model, optimizer), donate_argnums=0, out_shardings=replicated)
    held = {"parameters": state["params"], "optimizer": state["opt_state"], "batch": batch}
    program = compile_step("train_step", step, (state, batch), held)
    return program, sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state["params"]))


def new_state(
    model: nn.Module, optimizer: optax.GradientTransformation, size: int, key: jax.Array
) -> dict[str, Any]:
    """Parameters, their optimizer's state, and the number of steps."""
    params = model.init(key, jnp.zeros((1, size, size, 3)))["params"]
    return {"params": params, "opt_state": optimizer.init(params), "step": jnp.int32(0)}


def train_step(model: nn.Module, optimizer: optax.GradientTransformation) -> Callable:
    """From a state and a batch to the next state and the loss."""

    def loss_fn(params, batch, key):
        logits = model.apply({"params": params}, batch["image"], train=True, rngs={"dropout": key})
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    def step(state, batch):
        key = jax.random.fold_in(jax.random.key(0), state["step"])
        loss, grads = jax.value_and_grad(loss_fn)(state["params"], batch, key)
        updates, opt_state = optimizer.update(grads, state["opt_state"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        return {"params": params, "opt_state": opt_state, "step": state["step"] + 1}, loss

    return step


def figures(program: CompiledProgram) -> dict[str, Any]:
    """The compiler's figures of one device; only the refusal if it does not fit."""
    if program.memory is None or program.cycles is None:
        return {"refusal": program.refusal}
    return {
        "cycles": program.cycles.total,
        "without_estimate": sum(program.cycles.unknown.values()),
        "bytes_accessed": program.bytes_accessed,
        "temporaries": program.memory.temporaries,
        "compile_seconds": round(program.seconds, 1),
    }


def to_text(result: dict[str, Any]) -> str:
    """A table in Markdown; the ratio is of the last row to the first."""
    lines = [
        f"| {result['size']}², {result['batch_per_device']} images a device, "
        f"`{result['topology']}`, {result['dtype']}, AdamW | parameters | estimated cycles "
        "| instructions without an estimate | bytes | temporaries |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        cells = [row["model"], f"{row['parameters'] / 1e6:.2f} M"]
        if "refusal" in row:
            cells += [f"does not fit: {row['refusal']}", "", "", ""]
        else:
            cells += [f"{row['cycles'] / 1e6:.1f} M", str(row["without_estimate"])]
            cells += [f"{row[name] / 1e9:.2f} GB" for name in ("bytes_accessed", "temporaries")]
        lines.append(f"| {' | '.join(cells)} |")
    first, last = result["rows"][0], result["rows"][-1]
    if first is not last and "cycles" in first and "cycles" in last:
        ratio = last["cycles"] / first["cycles"]
        lines.append(f"\n{last['model']} takes {ratio:.2f} times the cycles of {first['model']}.")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main, sys.argv[1:])
