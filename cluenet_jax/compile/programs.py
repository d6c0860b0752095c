"""The training and the evaluation step of a configuration, compiled for a slice."""

import dataclasses
import math
import re
import time
from collections.abc import Callable
from typing import Any

import jax
import ml_collections

from cluenet_jax.check import check_config
from cluenet_jax.compile.costs import Collective, Cycles, collectives, counted, estimate_cycles
from cluenet_jax.compile.gpus import compiler_options
from cluenet_jax.compile.hlo import Module, parse_hlo
from cluenet_jax.compile.topologies import Topology
from cluenet_jax.data import describe_dataset
from cluenet_jax.errors import UserError
from cluenet_jax.train.programs import Programs
from cluenet_jax.train.sharding import make_mesh

# Only the table of learning rates depends on it.
_ANY_NUMBER_OF_EXAMPLES = 100_000


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    Attributes:
      parameters, optimizer, batch: Of what the program is given.
      other: What it is given besides, such as averages, and what layouts pad.
      results: Of what it gives that does not take the place of what it is given.
      temporaries: At the peak.
      code: Of the program itself.
    """

    parameters: int
    optimizer: int
    batch: int
    other: int
    results: int
    temporaries: int
    code: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(dataclasses.asdict(self).values())


@dataclasses.dataclass(frozen=True)
class CompiledProgram:
    """A compiled step and the compiler's figures on it.

    Attributes:
      name: `train_step` or `eval_step`.
      batch_size: Examples over all devices.
      seconds: That tracing and compiling took.
      memory: None if the compiler found that it does not fit.
      refusal: The compiler's words then, else "".
      flops, bytes_accessed: Of one device; None for GPUs, of which the compiler does not say them.
      cycles: Of one device; None for GPUs.
      collectives: Largest first.
      counts: Scatters, gathers, sorts and loops.
      origins: Of those, where they are from.
      hlo: The optimized program.
    """

    name: str
    batch_size: int
    seconds: float
    memory: Memory | None = None
    refusal: str = ""
    flops: float | None = None
    bytes_accessed: float | None = None
    cycles: Cycles | None = None
    collectives: tuple[Collective, ...] = ()
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    origins: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    hlo: str = ""

    def fits(self, memory_bytes: int) -> bool:
        """Whether it fits a device of so much memory."""
        return self.memory is not None and self.memory.total <= memory_bytes


def programs_for(
    config: ml_collections.ConfigDict,
    topology: Topology,
    devices: list[jax.Device],
    num_targets: int | None = None,
) -> Programs:
    """The programs of a configuration on a slice; no data is read.

    Args:
      config: As for training.
      topology: The slice, or the GPUs.
      devices: Its devices.
      num_targets: Of the dataset, None where its name says it.

    Raises:
      UserError: The configuration cannot run on so many devices, or the number is not known.
    """
    check_config(config, topology.num_devices)
    try:
        info = describe_dataset(config.data.name, num_targets)
    except UserError as error:
        raise UserError(f"{error} Give it: --num_targets=N.") from error
    return Programs.create(config, info, _ANY_NUMBER_OF_EXAMPLES, make_mesh(devices))


def compile_train_step(programs: Programs) -> CompiledProgram:
    """The training step, with its state in place."""
    state = programs.state_spec()
    batch = programs.batch_spec(programs.config.optim.batch_size)
    held = {"parameters": state.params, "optimizer": state.opt_state, "batch": batch}
    return compile_step("train_step", programs.train_step(state), (state, batch), held)


def compile_eval_step(programs: Programs) -> CompiledProgram:
    """The evaluation step."""
    variables = programs.state_spec().eval_variables
    batch = programs.batch_spec(programs.config.eval.batch_size, train=False)
    held = {"parameters": variables["params"], "optimizer": (), "batch": batch}
    return compile_step("eval_step", programs.eval_step, (variables, batch), held)


def compile_step(
    name: str, step: Callable, arguments: tuple[Any, Any], held: dict[str, Any]
) -> CompiledProgram:
    """A jitted step, compiled.

    Args:
      name: Of the step.
      step: A function of two arguments.
      arguments: Their shapes, types and sharding.
      held: Those of the arguments' `parameters`, `optimizer` and `batch`.
    """
    batch_size = jax.tree.leaves(held["batch"])[0].shape[0]
    start = time.perf_counter()
    traced = step.trace(*arguments)
    (device, *_) = jax.tree.leaves(arguments)[0].sharding.device_set
    on_gpu = device.platform == "gpu"
    lowered = traced.lower(lowering_platforms=("cuda" if on_gpu else "tpu",))
    try:
        compiled = lowered.compile(compiler_options() if on_gpu else None)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        seconds = time.perf_counter() - start
        return CompiledProgram(name, batch_size, seconds, refusal=shortened(str(error)))
    seconds = time.perf_counter() - start
    text = compiled.as_text()
    module = parse_hlo(text)
    listed = counted(module)
    costs = compiled.cost_analysis() or {}
    return CompiledProgram(
        name,
        batch_size,
        seconds,
        _memory(compiled.memory_analysis(), held),
        "",
        costs.get("flops"),
        costs.get("bytes accessed"),
        None if on_gpu else estimate_cycles(module),
        tuple(_collectives(module, traced.out_info, held)),
        {kind: len(instructions) for kind, instructions in listed.items()},
        {kind: [i.op_name for i in instructions] for kind, instructions in listed.items()},
        text,
    )


def _memory(analysis: Any, held: dict[str, Any]) -> Memory:
    sizes = {name: _bytes_per_device(tree) for name, tree in held.items()}
    given = analysis.argument_size_in_bytes
    return Memory(
        **sizes,
        other=max(0, given - sum(sizes.values())),
        results=analysis.output_size_in_bytes - analysis.alias_size_in_bytes,
        temporaries=analysis.temp_size_in_bytes,
        code=analysis.generated_code_size_in_bytes,
    )


def _bytes_per_device(tree: Any) -> int:
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def _collectives(module: Module, results: Any, held: dict[str, Any]) -> list[Collective]:
    parameters = jax.tree.leaves(held["parameters"])
    whole = [tuple(leaf.shape) for leaf in parameters]
    parts = [tuple(leaf.sharding.shard_shape(leaf.shape)) for leaf in parameters]
    shapes = {tuple(leaf.shape) for leaf in jax.tree.leaves(results)}
    # Devices get sharded ones whole, the small ones by a sum, or pass their parts around; their
    # gradients may be reduced in parts.
    sharded = [s for pair in zip(whole, parts, strict=True) if pair[0] != pair[1] for s in pair]
    reduced = sharded
    # Only a program with an optimizer has gradients, and gives parameters.
    if held["optimizer"]:
        reduced, shapes = [*whole, *sharded], shapes - {*whole}
    return collectives(module, reduced, shapes, sharded)


def shortened(message: str) -> str:
    """The sentence that says how much memory is missing."""
    match = re.search(r"(Ran out of memory.*?[GMK]\)?\b[^.\n]*hbm|Ran out of memory.*)", message)
    return " ".join((match[0] if match else message).split())[:300]
