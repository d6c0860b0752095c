"""Estimated costs of an optimized program, and its traffic between devices."""

import collections
import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Iterator

from cluenet_jax.compile.hlo import Array, Instruction, Module

ACTIVATIONS = "activations"
PARAMETERS = "parameters and gradients"
RESULTS = "results"
SCALARS = "scalars"
UNNAMED = "arrays of unknown origin"
_COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "all-to-all",
    "reduce-scatter",
    "collective-permute",
    "collective-broadcast",
    "ragged-all-to-all",
)
# Opcodes that are counted, by what they are called in reports.
COUNTED = {"scatter": "scatters", "gather": "gathers", "sort": "sorts", "while": "loops"}
# They only name, or wait for, what other instructions do.
_FREE = re.compile(
    r"parameter|constant|tuple|get-tuple-element|bitcast|partition-id|replica-id|after-all"
    r"|opt-barrier|.*-done"
)
# Names of transformations, not of parts of the model.
_WRAPPERS = re.compile(
    r"checkpoint|rematted_computation|while|body|cond|closed_call|branch_\d+_fun"
)
# A transformation's name encloses that of the outermost scope.
_TRANSFORMED = re.compile(r"(?:(?:jvp|transpose|vmap)\()+([^()]*)\)+")
# Arrays of so many numbers are worth no name.
_TINY = 16
_OUTSIDE = "outside the model"


@dataclasses.dataclass(frozen=True)
class Collective:
    """What one collective operation does to one kind of arrays.

    Attributes:
      opcode: Such as `all-reduce`.
      over: One of this module's kinds of arrays.
      arrays: Of that kind, of the result on one device.
      origin: The operation of the traced function that it is from.
    """

    opcode: str
    over: str
    arrays: tuple[Array, ...]
    origin: str

    @property
    def bytes(self) -> int:
        """Of the result on one device, without padding."""
        return sum(array.bytes for array in self.arrays)


@dataclasses.dataclass(frozen=True)
class Cycles:
    """Estimated cycles of one turn of a program on one device.

    Attributes:
      by_scope: Of (stage, block, part), bodies of loops as often as they run.
      in_loops: Those of them within loops.
      unknown: Number of instructions without an estimate, by what they are.
      endless: Origins of loops of unknown length, whose bodies count once.
    """

    by_scope: dict[tuple[str, str, str], int]
    in_loops: int
    unknown: dict[str, int]
    endless: tuple[str, ...]

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.by_scope.values())

    def grouped(self, level: int) -> dict[str, int]:
        """By stage (0), block (1) or part (2), most first."""
        groups = collections.Counter()
        for scope, cycles in self.by_scope.items():
            groups[scope[level]] += cycles
        return dict(groups.most_common())


def collectives(
    module: Module,
    parameters: Iterable[tuple[int, ...]],
    results: Iterable[tuple[int, ...]],
    gathered: Iterable[tuple[int, ...]] = (),
) -> list[Collective]:
    """The collective operations of a program, largest first.

    What they are over is told by shapes, whose axes may be in any order. Arrays of more than one
    number that are like no parameter and no result are activations. The gradient of a parameter is
    reduced once: further reductions of its shape are over activations too. Gradients and gathered
    parameters may have an axis as two, such as heads and channels, or devices and their parts;
    programs for GPUs reduce all gradients as one flat array.

    Args:
      module: The program.
      parameters: Shapes of the parameters whose gradients are reduced, each as often as it is.
      results: Shapes of the program's other results.
      gathered: Shapes of sharded parameters, whole and in parts.
    """
    reducible = collections.Counter(map(_form, parameters))
    by_form = {_form(shape): RESULTS for shape in results}
    by_form |= {_form(shape): PARAMETERS for shape in gathered}

    def kind(array: Array, opcode: str, origin: str, joined: bool) -> str:
        form = _form(array.shape)
        if not form:
            return SCALARS
        if "reduce" in opcode:
            whole = form if reducible[form] else _unsplit(array.shape, +reducible)
            if joined and not whole:
                whole = _unflattened(array.shape, +reducible)
            if whole:
                reducible[whole] -= 1
                return PARAMETERS
        elif form not in by_form:
            form = _unsplit(array.shape, {f for f, over in by_form.items() if over == PARAMETERS})
        if form in by_form and not ("reduce" in opcode and by_form[form] == PARAMETERS):
            return by_form[form]
        return ACTIVATIONS if origin else UNNAMED

    listed = []
    for instruction in sorted(_distinct(module), key=lambda i: -len(i.arrays)):
        opcode = instruction.opcode.removesuffix("-start")
        by_kind = collections.defaultdict(list)
        joined = module.joined(instruction)
        for array in joined or _received(instruction):
            by_kind[kind(array, opcode, instruction.op_name, bool(joined))].append(array)
        listed += [
            Collective(opcode, over, tuple(arrays), instruction.op_name)
            for over, arrays in by_kind.items()
        ]
    return sorted(listed, key=lambda collective: -collective.bytes)


def _distinct(module: Module) -> list[Instruction]:
    """The collectives; the steps of an overlapped one share its channel, and count once."""
    distinct = {}
    for instruction in module.instructions():
        if instruction.opcode.removesuffix("-start") in _COLLECTIVES:
            distinct.setdefault(instruction.channel or instruction.name, instruction)
    return [*distinct.values()]


def _form(shape: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(size for size in shape if size > 1))


def _unsplit(shape: tuple[int, ...], forms: Iterable[tuple[int, ...]]) -> tuple[int, ...] | None:
    """The form, of those given, that a shape has with two neighboring axes as one."""
    for axis in range(1, len(shape)):
        merged = (*shape[: axis - 1], shape[axis - 1] * shape[axis], *shape[axis + 1 :])
        if _form(merged) in forms:
            return _form(merged)
    return None


def _unflattened(
    shape: tuple[int, ...], forms: Iterable[tuple[int, ...]]
) -> tuple[int, ...] | None:
    """The first form, of those given, that has as many numbers as a flat array."""
    fitting = (form for form in forms if math.prod(form) == math.prod(shape))
    return next(fitting, None)


def _received(instruction: Instruction) -> tuple[Array, ...]:
    """Of an operation that is only started, what will have arrived."""
    arrays = instruction.arrays
    if instruction.opcode in ("all-gather-start", "collective-permute-start"):
        arrays = tuple(array for array in arrays if (array.dtype, array.shape) != ("u32", ()))
        return arrays[len(arrays) // 2 :]
    return arrays


def counted(module: Module) -> dict[str, list[Instruction]]:
    """Scatters, gathers, sorts and loops, within fusions too."""
    listed = {name: [] for name in COUNTED.values()}
    for instruction in module.instructions():
        if instruction.opcode in COUNTED:
            listed[COUNTED[instruction.opcode]].append(instruction)
    return listed


def estimate_cycles(
    module: Module, find_scope: Callable[[str], tuple[str, str, str]] | None = None
) -> Cycles:
    """The compiler's estimates, added up by where they are from.

    Args:
      module: The program.
      find_scope: From an operation's name to its scope; `scope_of` if None.
    """
    find_scope = find_scope or scope_of
    by_scope, unknown, endless = collections.Counter(), collections.Counter(), []
    in_loops = 0

    def add(computation: str, times: int, caller: str) -> None:
        nonlocal in_loops
        for instruction in module.computations.get(computation, ()):
            origin = instruction.op_name or caller
            if instruction.opcode == "while":
                turns = module.turns(instruction)
                if turns is None:
                    endless.append(origin)
                before = sum(by_scope.values())
                for name in instruction.calls:
                    add(name, times * (turns or 1), origin)
                # Loops within are of this one.
                in_loops += (sum(by_scope.values()) - before) * (caller == "")
            elif instruction.opcode in ("conditional", "call"):
                for name in instruction.calls:
                    add(name, times, origin)
            elif not _FREE.fullmatch(instruction.opcode):
                # Some fusions have no estimate as a whole: what is inside may.
                parts = module.within(instruction) if instruction.cycles is None else [instruction]
                estimated = [part for part in parts if part.cycles is not None]
                for part in estimated:
                    by_scope[find_scope(part.op_name or origin)] += times * part.cycles
                if not estimated:
                    unknown[_kind(module, instruction)] += 1

    add(module.entry, 1, "")
    return Cycles(dict(by_scope), in_loops, dict(unknown.most_common()), tuple(endless))


def _kind(module: Module, instruction: Instruction) -> str:
    """What an instruction without an estimate is, of a fusion what it holds."""
    if instruction.opcode == "custom-call":
        return f"custom call {instruction.target}"
    if instruction.opcode == "fusion":
        inside = {inner.opcode for inner in module.within(instruction)}
        telling = inside & {*COUNTED, *_COLLECTIVES, "custom-call", "convolution"}
        return f"fusion with {' and '.join(sorted(telling))}" if telling else "other fusion"
    if max((math.prod(array.shape) for array in instruction.arrays), default=0) <= _TINY:
        return f"operation on at most {_TINY} numbers"
    return instruction.opcode.replace("copy-start", "copy between memories").removesuffix("-start")


def scope_of(op_name: str) -> tuple[str, str, str]:
    """(stage, block, part) that an operation's name says, such as (stage1, stage1_block0, mlp)."""
    names = list(scope_names(op_name))
    for part in ("backbone", "head"):
        if part in names:
            inner = names[names.index(part) + 1 :]
            block, own = (inner[0] if inner else part), (inner[1] if inner[1:] else "itself")
            if part == "head":
                return "head", "head", inner[0] if inner else "itself"
            return block.partition("_")[0], block, own
    return _OUTSIDE, _OUTSIDE, names[0] if names else "unnamed"


def scope_names(op_name: str) -> Iterator[str]:
    """The names of modules and scopes: neither transformations, methods nor the operation."""
    # Merged operations list the names of all, of which the first is as good as any.
    for segment in op_name.split(";")[0].split("/")[:-1]:
        transformed = _TRANSFORMED.fullmatch(segment)
        name = transformed[1] if transformed else segment
        if name.isidentifier() and not _WRAPPERS.fullmatch(name):
            yield name
