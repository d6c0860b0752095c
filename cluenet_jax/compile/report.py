"""The figures on compiled programs, as text for people and as JSON."""

import collections
import dataclasses
from typing import Any

from cluenet_jax.compile.costs import ACTIVATIONS, Collective, Cycles
from cluenet_jax.compile.programs import CompiledProgram
from cluenet_jax.compile.topologies import Topology

WHAT_THEY_ARE = (
    "All figures are the compiler's own estimates for one device; nothing was run or measured."
)
_LISTED = 12


def to_json(
    topology: Topology, programs: list[CompiledProgram], largest: int | None = None
) -> dict[str, Any]:
    """All figures as plain numbers, strings, lists and dicts.

    Args:
      topology: That the programs were compiled for.
      programs: The steps.
      largest: Batch per device, if it was looked for.
    """
    figures = {
        "what": WHAT_THEY_ARE,
        "topology": topology.name,
        "devices": topology.num_devices,
        "memory_bytes_per_device": topology.memory_bytes,
        "fits": fits(topology, programs),
        "programs": {program.name: _program_to_json(program, topology) for program in programs},
    }
    return figures if largest is None else {**figures, "largest_batch_per_device": largest}


def fits(topology: Topology, programs: list[CompiledProgram]) -> bool:
    """Whether all programs fit a device."""
    return all(program.fits(topology.memory_bytes) for program in programs)


def _program_to_json(program: CompiledProgram, topology: Topology) -> dict[str, Any]:
    figures = {
        "batch_size": program.batch_size,
        "batch_size_per_device": program.batch_size // topology.num_devices,
        "fits": program.fits(topology.memory_bytes),
        "compile_seconds": round(program.seconds, 1),
    }
    if program.memory is None:
        return {**figures, "refusal": program.refusal}
    return {
        **figures,
        "memory_bytes": {**dataclasses.asdict(program.memory), "total": program.memory.total},
        "flops": program.flops,
        "bytes_accessed": program.bytes_accessed,
        "estimated_cycles": program.cycles and _cycles_to_json(program.cycles),
        "counts": program.counts,
        "origins": program.origins,
        "collectives": [_collective_to_json(collective) for collective in program.collectives],
    }


def _cycles_to_json(cycles: Cycles) -> dict[str, Any]:
    return {
        "total": cycles.total,
        "in_loops": cycles.in_loops,
        "by_scope": {"/".join(scope): count for scope, count in cycles.by_scope.items()},
        "instructions_without_estimate": cycles.unknown,
        "loops_of_unknown_length": [*cycles.endless],
    }


def _collective_to_json(collective: Collective) -> dict[str, Any]:
    return {
        "operation": collective.opcode,
        "over": collective.over,
        "bytes": collective.bytes,
        "arrays": [str(array) for array in collective.arrays],
        "origin": collective.origin,
    }


def to_text(topology: Topology, programs: list[CompiledProgram], largest: int | None = None) -> str:
    """The figures as lines; arguments as of `to_json`."""
    lines = [
        f"{topology.name}: {topology.num_devices} devices of {_size(topology.memory_bytes)}.",
        WHAT_THEY_ARE,
    ]
    for program in programs:
        lines += ["", *_program_lines(program, topology)]
    if largest is not None:
        lines += ["", _largest_line(largest)]
    return "\n".join(lines)


def _largest_line(largest: int) -> str:
    if not largest:
        return "Largest batch that fits: none."
    return f"Largest batch that fits in training: {largest} a device, to an eighth of it."


def _program_lines(program: CompiledProgram, topology: Topology) -> list[str]:
    per_device = program.batch_size // topology.num_devices
    title = (
        f"{program.name}, {per_device} examples a device, compiled in {program.seconds:.0f} s: "
        f"{'fits' if program.fits(topology.memory_bytes) else 'DOES NOT FIT'}"
    )
    if program.memory is None:
        return [title, f"  {program.refusal}"]
    parts = dataclasses.asdict(program.memory)
    counts = ", ".join(f"{count} {kind}" for kind, count in program.counts.items())
    return [
        title,
        f"  memory          {_size(program.memory.total)}: "
        + ", ".join(f"{name} {_size(size)}" for name, size in parts.items() if size),
        *_work_lines(program),
        f"  operations      {counts}",
        *_collective_lines(program.collectives),
    ]


def _work_lines(program: CompiledProgram) -> list[str]:
    cycles = program.cycles
    if program.flops is None or program.bytes_accessed is None or cycles is None:
        return ["  work, cycles    the compiler gives no estimates for GPUs"]
    return [
        f"  work            {program.flops / 1e9:,.2f} GFLOPs, "
        f"{program.bytes_accessed / 1e9:,.2f} GB accessed",
        f"  cycles          {_millions(cycles.total)}, {_millions(cycles.in_loops)} of it in loops",
        *_cycle_lines(cycles),
        f"  no estimate     {_unknown(cycles.unknown)}",
        *[f"  unknown length  the loop of {origin}: counted once" for origin in cycles.endless],
    ]


def _cycle_lines(cycles: Cycles) -> list[str]:
    lines = []
    for level, name in enumerate(("stage", "block", "part")):
        groups = [*cycles.grouped(level).items()]
        listed = [
            f"{group} {_millions(count)} ({count / max(1, cycles.total):.0%})"
            for group, count in groups[:_LISTED]
        ]
        left = sum(count for _, count in groups[_LISTED:])
        listed += [f"{len(groups) - _LISTED} more {_millions(left)}"] if left else []
        lines.append(f"    by {name:12} {', '.join(listed)}")
    return lines


def _unknown(kinds: dict[str, int]) -> str:
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return f"{sum(kinds.values())} instructions: {listed}" if kinds else "none"


def _collective_lines(collectives: tuple[Collective, ...]) -> list[str]:
    kinds = collections.defaultdict(list)
    for collective in collectives:
        kinds[collective.over].append(collective)
    lines = [f"  collectives     {'none' if not kinds else ''}".rstrip()]
    for over, members in sorted(kinds.items(), key=lambda item: item[0] != ACTIVATIONS):
        total = sum(member.bytes for member in members)
        lines.append(f"    over {over}: {len(members)}, {_size(total)}")
        for member in members:
            arrays = ", ".join(map(str, member.arrays[:2]))
            more = f" and {len(member.arrays) - 2} more" if member.arrays[2:] else ""
            lines.append(
                f"      {member.opcode} {_size(member.bytes)} {arrays}{more}: {member.origin}"
            )
    return lines


def _size(count: int) -> str:
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= factor:
            return f"{count / factor:.2f} {unit}"
    return f"{count} B"


def _millions(count: int) -> str:
    return f"{count / 1e6:,.2f} M"
