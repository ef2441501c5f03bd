"""Where the time of a compiled step goes: the compiler's estimates by part of the model, and a
printed formula for what it has none for."""

import collections
import math
import re
from typing import NamedTuple

from bert_jax.errors import InputError
from bert_jax.model.kernel_work import KERNELS, Operand
from bert_jax.training.hardware import RANDOM_CYCLES, Tpu
from bert_jax.training.hlo import COLLECTIVES, PALLAS, Executed, Shape, executed

DROPOUT, COLLECTIVE, COPY, OTHER = "dropout", "collectives", "copies", "other"
# Of the scope an instruction comes from; the first that is found.
_SCOPES = {
    DROPOUT: re.compile(r"dropout\b"),
    "embeddings": re.compile(r"\bembeddings\b"),
    "attention": re.compile(r"\battention|\bsplash"),
    "feed-forward": re.compile(r"\bfeed_forward"),
    "vocabulary head": re.compile(r"\bmlm\b"),
    "optimizer": re.compile(r"\boptimizer\b"),
}
GROUPS = (*_SCOPES, COLLECTIVE, COPY, OTHER)

_FREE = frozenset({"parameter", "constant", "bitcast", "tuple", "get-tuple-element"})
# Targets of custom calls that only tell the compiler something.
_NOTES = frozenset(
    {"AssumeGatherIndicesInBound", "ConcatBitcast", "GatherScatterIndicesBitpacked"}
    | {"AllocateBuffer", "X64Combine"}
)
# What a vector unit has nothing to do for.
_NO_VECTORS = _FREE | {"broadcast", "iota", "copy", "convolution", "fusion"}
_BESIDE = ("-start", "-update", "-done")  # halves of what runs beside the rest

# What the compiler has no estimate for, and what is taken instead: rather too much.
FORMULAS = {
    "collectives": "all bytes, an all-reduce's twice, over half of a chip's links, none hidden",
    "gathers, scatters, sorts": "their bytes in memory, at its rate",
    "random bits": "of the hardware, a word of 32 in four cycles of a lane, which is a guess",
    "Pallas kernels": "units in turns: products at the peak, sides filled up to the matrix unit's;"
    " a lane's exponential in one cycle, a random word in four, which is a guess; the rest of the"
    " arithmetic at the vector units' rate; or their bytes at the memory's, if that is longer",
}
EXCHANGES, _MOVES, _RANDOM, PALLAS_KERNELS = FORMULAS


class StepCost(NamedTuple):
    """Seconds of one chip in a step, by group and by who says so."""

    groups: dict[str, float]  # their sum is the step
    by_formula: dict[str, float]  # of that, not the compiler's estimate: what -> seconds
    hidden_bytes: float  # moved beside the rest, which is taken to cost nothing

    @property
    def seconds(self) -> float:
        """Of the whole step."""
        return sum(self.groups.values())


def step_cost(text: str, tpu: Tpu) -> StepCost:
    """The cost of a step's optimised HLO.

    Raises InputError for a Pallas kernel or a custom call whose work is not known.
    """
    groups = dict.fromkeys(GROUPS, 0.0)
    by_formula: dict[str, float] = collections.defaultdict(float)
    hidden_bytes = 0.0
    for each in executed(text):
        seconds, formula = _seconds(each, tpu)
        dropout = min(seconds, _dropout_seconds(each, tpu))
        groups[DROPOUT] += each.times * dropout
        groups[_group(each)] += each.times * (seconds - dropout)
        if formula:
            by_formula[formula] += each.times * seconds
        if each.instruction.opcode.endswith("-done"):
            hidden_bytes += each.times * _bytes(each.instruction.results)
    return StepCost(groups, dict(by_formula), hidden_bytes)


def _seconds(each: Executed, tpu: Tpu) -> tuple[float, str]:
    """Seconds of one execution, and by which formula; "" where the compiler says it."""
    opcode, results = each.instruction.opcode, each.instruction.results
    if opcode in COLLECTIVES:
        size = max(_bytes(results), _bytes(each.operands))
        # Half of the links: what a chip at the corner of a slice has.
        rate = tpu.ici_bytes_per_second / 2
        return (2 if opcode.startswith("all-reduce") else 1) * size / rate, EXCHANGES
    if each.instruction.target == PALLAS:
        return _kernel_seconds(each, tpu), PALLAS_KERNELS
    if each.instruction.cycles is not None:
        return each.instruction.cycles / tpu.hertz, ""
    if opcode in _FREE or each.instruction.target in _NOTES or opcode.endswith(_BESIDE):
        return 0.0, ""
    if opcode == "custom-call":
        raise InputError(
            f"the step holds a custom call of {each.instruction.target!r}, whose time is not known:"
            " add what it does to bert_jax/tasks/step_cost.py."
        )
    if opcode == "rng-bit-generator":
        words = _bytes(results) / 4
        return words * RANDOM_CYCLES / (tpu.lanes * tpu.hertz), _RANDOM
    in_hbm = [shape for shape in (*results, *each.operands) if shape.is_in_hbm]
    return _bytes(in_hbm) / tpu.hbm_bytes_per_second, _MOVES


def _dropout_seconds(each: Executed, tpu: Tpu) -> float:
    """Of the dropout that is fused with other things, for which there is one estimate.

    Random bits are vector operations by the dozen, and where they are most of a fusion the
    compiler's estimate is these at the rate of the vector units, to a few percent.
    """
    drawn = sum(
        math.prod(inner.results[0].sizes)
        for inner in each.fused
        if inner.opcode not in _NO_VECTORS and _SCOPES[DROPOUT].search(inner.scope)
    )
    return drawn / tpu.vector_operations_per_second


def _kernel_seconds(each: Executed, tpu: Tpu) -> float:
    found = re.search(r"(\w+)\)*/pallas_call$", each.instruction.scope)
    name = found[1] if found else each.instruction.name.partition(".")[0]
    if name not in KERNELS:
        raise InputError(
            f"the step holds the Pallas kernel {name!r}, whose work is not known:"
            " add it to KERNELS in bert_jax/model/kernel_work.py."
        )
    operands = [Operand(shape.sizes, shape.itemsize) for shape in each.operands]
    work = KERNELS[name](operands, tpu.matrix_unit)
    return tpu.kernel_seconds(**work._asdict())


def _group(each: Executed) -> str:
    instruction = each.instruction
    if instruction.opcode in COLLECTIVES:
        return COLLECTIVE
    if instruction.opcode == "copy" or instruction.name.startswith("copy"):
        return COPY
    # Splash attention has no scope.
    scope = instruction.scope or instruction.name
    for name, pattern in _SCOPES.items():
        if pattern.search(scope):
            return name
    return OTHER


def _bytes(shapes: tuple[Shape, ...] | list[Shape]) -> int:
    return sum(shape.bytes for shape in shapes)
