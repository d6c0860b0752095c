"""Reading of optimized HLO text: its instructions, and the computations that they form."""

import dataclasses
import functools
import re
from collections.abc import Iterator

_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%(?P<name>[\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%(?P<name>[\w.\-]+) = (?P<body>.*)$")
_OPCODE = re.compile(r"\s*([\w\-]+)\(")
_OPERANDS = re.compile(r"\(((?:%[\w.\-]+(?:, )?)*)\)")
_ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\]")
_CALLS = re.compile(r"\b(?:calls|body|condition|to_apply)=%([\w.\-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_OP_NAME = re.compile(r'\bop_name="([^"]*)"')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CHANNEL = re.compile(r"\bchannel_id=(\d+)")
_TARGET = re.compile(r'\bcustom_call_target="([^"]*)"')
_VALUE = re.compile(r"\bconstant\((-?\d+)\)")
_DIRECTION = re.compile(r"\bdirection=(\w+)")
# What the condition of a loop over a counter is made of.
_COUNTING = {"constant", "parameter", "get-tuple-element", "copy", "bitcast", "compare"}


@dataclasses.dataclass(frozen=True)
class Array:
    """Type and shape of an array.

    Attributes:
      dtype: As in HLO, such as `f32`.
      shape: Sizes of its axes.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Without padding."""
        digits = re.search(r"\d+", self.dtype)
        bits = int(digits[0]) if digits else 8 * (self.dtype == "pred")
        size = functools.reduce(lambda a, b: a * b, self.shape, 1)
        return -(-size * bits // 8)

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@dataclasses.dataclass(frozen=True)
class Instruction:
    """An instruction.

    Attributes:
      name: Unique in the program.
      opcode: Such as `fusion`.
      arrays: Of its result; of a tuple all, flat.
      op_name: Where it is from in the traced function, "" if not known.
      operands: Names of what it is applied to, where they are plainly listed.
      cycles: The compiler's estimate, None if it has none.
      calls: Names of the computations that it calls.
      trips: Turns of a loop as the compiler notes them, None if it does not.
      channel: Of a collective, None without one; the same in all its parts.
      target: Of a custom call, "" for others.
      value: Of a constant whole number, None for others.
      direction: Of a comparison, such as `LT`, "" for others.
    """

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    op_name: str
    operands: tuple[str, ...]
    cycles: int | None
    calls: tuple[str, ...]
    trips: int | None
    channel: int | None
    target: str
    value: int | None
    direction: str


@dataclasses.dataclass(frozen=True)
class Module:
    """A program.

    Attributes:
      computations: Their instructions, in order, by name.
      entry: The name of the computation that the program starts in.
    """

    computations: dict[str, tuple[Instruction, ...]]
    entry: str

    def instructions(self) -> Iterator[Instruction]:
        """All of all computations; where they do not know where they are from, their callers do."""
        for name, instructions in self.computations.items():
            for instruction in instructions:
                if instruction.op_name:
                    yield instruction
                else:
                    yield dataclasses.replace(instruction, op_name=self._origin(name))

    def within(self, instruction: Instruction) -> Iterator[Instruction]:
        """Instructions of the computations that one calls, and of those that these call."""
        for name in instruction.calls:
            for inner in self.computations.get(name, ()):
                yield inner
                yield from self.within(inner)

    def joined(self, instruction: Instruction) -> tuple[Array, ...]:
        """The flat arrays of which an instruction's only operand is made, end to end, if it is."""
        source = self._named.get(instruction.operands[0]) if instruction.operands else None
        for name in source.calls if source and len(instruction.operands) == 1 else ():
            inside = self.computations.get(name, ())
            if inside and inside[-1].opcode == "concatenate":
                parts = [array for i in inside if i.opcode == "parameter" for array in i.arrays]
                return tuple(parts) if all(len(part.shape) == 1 for part in parts) else ()
        return ()

    def turns(self, loop: Instruction) -> int | None:
        """How often a loop is run; None if its end depends on what it computes.

        A condition that compares a counter to a constant is taken for a count from zero by ones,
        as the compiler writes loops.
        """
        if loop.trips is not None:
            return loop.trips
        for name in loop.calls:
            inside = self.computations.get(name, ())
            if inside and inside[-1].opcode == "compare":
                limits = {i.value for i in inside if i.opcode == "constant"}
                counting = {i.opcode for i in inside} <= _COUNTING
                if counting and len(limits) == 1 and inside[-1].direction == "LT":
                    return limits.pop()
        return None

    @functools.cached_property
    def _named(self) -> dict[str, Instruction]:
        return {i.name: i for instructions in self.computations.values() for i in instructions}

    def _origin(self, computation: str) -> str:
        caller = self._callers.get(computation)
        return caller[1].op_name or self._origin(caller[0]) if caller else ""

    @functools.cached_property
    def _callers(self) -> dict[str, tuple[str, Instruction]]:
        return {
            called: (name, instruction)
            for name, instructions in self.computations.items()
            for instruction in instructions
            for called in instruction.calls
        }


def parse_hlo(text: str) -> Module:
    """The program of an optimized HLO text (`compiled.as_text()`)."""
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", []
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            current = computations.setdefault(header["name"], [])
            entry = header["name"] if header["entry"] else entry
        elif match := _INSTRUCTION.match(line):
            current.append(_parse_instruction(match["name"], match["body"]))
    return Module({name: tuple(inside) for name, inside in computations.items()}, entry)


def _parse_instruction(name: str, body: str) -> Instruction:
    end = _end_of_type(body)
    opcode = _OPCODE.match(body, end)
    branches = _BRANCHES.search(body)
    operands = _OPERANDS.match(body, opcode.end() - 1) if opcode else None
    return Instruction(
        name,
        opcode[1] if opcode else "",
        tuple(
            Array(dtype, tuple(int(size) for size in sizes.split(",") if size))
            for dtype, sizes in _ARRAY.findall(body[:end])
        ),
        _first(_OP_NAME, body) or "",
        tuple(re.findall(r"%([\w.\-]+)", operands[1])) if operands else (),
        _number(_CYCLES, body),
        (
            *_CALLS.findall(body, end),
            *(re.findall(r"%([\w.\-]+)", branches[1]) if branches else ()),
        ),
        _number(_TRIPS, body),
        _number(_CHANNEL, body),
        _first(_TARGET, body) or "",
        _number(_VALUE, body),
        _first(_DIRECTION, body) or "",
    )


def _end_of_type(body: str) -> int:
    """The index after an instruction's type, which is one array or a tuple in parentheses."""
    if not body.startswith("("):
        return body.find(" ")
    depth = 0
    for index, character in enumerate(body):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return index + 1
    return len(body)


def _first(pattern: re.Pattern, text: str) -> str | None:
    match = pattern.search(text)
    return match[1] if match else None


def _number(pattern: re.Pattern, text: str) -> int | None:
    digits = _first(pattern, text)
    return None if digits is None else int(digits)
