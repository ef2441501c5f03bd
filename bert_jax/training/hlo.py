"""What a compiled program executes and what its compiler expects that to take: read from the
text of its optimised HLO.

The TPU compiler writes `estimated_cycles` beside an instruction; `cost_analysis()` passes on
nothing of it. A fusion's estimate is for all that is fused. Without one are collectives, Pallas
kernels, gathers and scatters, what runs beside the rest (in two halves, start and done: copies
to and from on-chip memory, work of the sparse cores), and the free (bitcasts, tuples).
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from bert_jax.errors import InputError

COLLECTIVES = frozenset(
    {"all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute"}
    | {"all-reduce-start", "all-gather-start", "collective-permute-start", "ragged-all-to-all"}
)
PALLAS = "tpu_custom_call"  # the target of a custom call that is a Pallas kernel

# What holds other instructions and runs as one.
_WRAPPERS = frozenset({"fusion", "async-start"})
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(
    r"\s+(ROOT )?%([\w.\-]+) = (.*?[})\]]) ([a-z][a-z0-9\-]*)\(([^()]*)\)(.*)"
)
_STATEMENT = re.compile(r"\s+(ROOT )?%[\w.\-]+ = ")  # any instruction, also one not foreseen
_SHAPE = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\](\{[^}]*\})?")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|\w+_computations?)=\{?(%[\w.\-]+(?:, ?%[\w.\-]+)*)")


class Shape(NamedTuple):
    """An array on one device."""

    dtype: str
    sizes: tuple[int, ...]
    is_in_hbm: bool  # else in on-chip memory

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        bits = re.search(r"\d+", self.dtype)  # pred, which is a byte, has none
        return max(int(bits[0]) // 8 if bits else 1, 1)

    @property
    def bytes(self) -> int:
        """As HLO counts them, padding left out."""
        return self.itemsize * math.prod(self.sizes)


class Instruction(NamedTuple):
    """One line of a computation."""

    name: str
    opcode: str
    operands: tuple[str, ...]
    results: tuple[Shape, ...]  # several where it gives a tuple
    cycles: int | None  # the compiler's estimate
    scope: str  # where in the traced program it comes from: named scopes, joined by /
    target: str  # of a custom call
    called: tuple[str, ...]  # computations
    condition: str  # of a while
    channel: str  # of a collective: halves and parts of one have the same
    text: str
    is_root: bool


class Executed(NamedTuple):
    """An instruction that runs on its own, and how often."""

    instruction: Instruction
    times: int
    operands: tuple[Shape, ...]
    fused: tuple[Instruction, ...]  # what a fusion consists of
    is_inside: bool  # a collective within something else


Computations = dict[str, dict[str, Instruction]]


def executed(text: str) -> Iterator[Executed]:
    """Every instruction of a program with how often it runs; what is fused is one.

    A collective is given on its own also where it is fused or runs beside others; one that goes
    on through several fusions is given once. Of the branches of a conditional the one with the
    most cycles is taken. Raises ValueError for a loop whose number of rounds does not stand in
    its condition, and InputError for what `parse` cannot read.
    """
    computations, entry = parse(text)
    begun: set[str] = set()  # channels of collectives within fusions
    for each in _executed(computations, entry, 1):
        channel = each.instruction.channel
        if not (each.is_inside and channel in begun):
            yield each
        if each.is_inside and channel:
            begun.add(channel)


def parse(text: str) -> tuple[Computations, str]:
    """The computations by name, of each its instructions by name; and the name of the entry.

    Raises InputError for an instruction that it cannot read.
    """
    computations: Computations = {}
    entry, current = "", {}
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            current = computations.setdefault(header[2], {})
            entry = header[2] if header[1] else entry
        elif found := _INSTRUCTION.match(line):
            current[found[2]] = _instruction(found)
        elif _STATEMENT.match(line):
            raise InputError(
                f"the program holds an instruction that is not understood, {line.strip()}: add its"
                " form to bert_jax/training/hlo.py."
            )
    return computations, entry


def _instruction(found: re.Match[str]) -> Instruction:
    root, name, results, opcode, operands, rest = found.groups()
    cycles = re.search(r'"estimated_cycles":"(\d+)"', rest)
    condition = re.search(r"\bcondition=%([\w.\-]+)", rest)
    channel = re.search(r"\bchannel_id=(\d+)", rest)
    called = [item for group in _CALLED.findall(rest) for item in re.findall(r"%([\w.\-]+)", group)]
    return Instruction(
        name=name,
        opcode=opcode,
        operands=tuple(re.findall(r"%([\w.\-]+)", operands)),
        results=tuple(_shape(*parts) for parts in _SHAPE.findall(results)),
        cycles=int(cycles[1]) if cycles else None,
        scope=_quoted("op_name", rest),
        target=_quoted("custom_call_target", rest),
        called=tuple(called),
        condition=condition[1] if condition else "",
        channel=channel[1] if channel else "",
        text=operands + rest,
        is_root=bool(root),
    )


def _shape(dtype: str, sizes: str, layout: str) -> Shape:
    # Of the memory spaces, S(1), S(2), ..., none written is HBM.
    return Shape(dtype, tuple(int(size) for size in sizes.split(",") if size), "S(" not in layout)


def _quoted(field: str, text: str) -> str:
    found = re.search(rf'\b{field}="([^"]*)"', text)
    return found[1] if found else ""


def _executed(computations: Computations, name: str, times: int) -> Iterator[Executed]:
    computation = computations[name]
    for each in computation.values():
        if each.opcode == "while":
            rounds = _rounds(computations[each.condition])
            for called in each.called:
                yield from _executed(computations, called, times * rounds)
        elif each.opcode == "conditional":
            branches = [list(_executed(computations, called, times)) for called in each.called]
            yield from max(branches, key=_cycles)
        elif each.opcode == "call":
            for called in each.called:
                yield from _executed(computations, called, times)
        else:
            inside = tuple(_inside(computations, each)) if each.opcode in _WRAPPERS else ()
            collectives = [pair for pair in inside if pair[1].opcode in COLLECTIVES]
            for around, one in collectives:
                yield Executed(one, times, _operand_shapes(around, one), (), True)
            if each.cycles is not None or not collectives:
                fused = tuple(one for _, one in inside)
                yield Executed(each, times, _operand_shapes(computation, each), fused, False)


def _operand_shapes(computation: dict[str, Instruction], each: Instruction) -> tuple[Shape, ...]:
    known = [computation[name] for name in each.operands if name in computation]
    return tuple(shape for operand in known for shape in operand.results)


def _inside(
    computations: Computations, wrapper: Instruction
) -> Iterator[tuple[dict[str, Instruction], Instruction]]:
    """Each instruction, and the computation that it stands in."""
    for called in wrapper.called:
        for each in computations[called].values():
            yield computations[called], each
            if each.opcode in _WRAPPERS:
                yield from _inside(computations, each)


def _cycles(branch: list[Executed]) -> int:
    return sum((each.instruction.cycles or 0) * each.times for each in branch)


def _rounds(condition: dict[str, Instruction]) -> int:
    """Of a loop that counts up from 0 while it is below a constant, as lax.scan makes them."""
    root = next(each for each in condition.values() if each.is_root)
    limits = [condition[name] for name in root.operands if condition[name].opcode == "constant"]
    if root.opcode != "compare" or "direction=LT" not in root.text or len(limits) != 1:
        raise ValueError(f"the loop with the condition {root.name} does not count to a constant")
    return int(re.match(r"\d+", limits[0].text)[0])
