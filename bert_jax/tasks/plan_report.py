"""A plan as a table, a column a slice."""

from collections.abc import Callable, Sequence
from typing import Any

from bert_jax.tasks.planned_step import OPTIMIZER, PARAMETERS, REST, TEMPORARIES
from bert_jax.tasks.slice_plan import SlicePlan
from bert_jax.tasks.step_cost import FORMULAS, GROUPS

GIB = 2**30


def table(plans: Sequence[SlicePlan], notes: Sequence[str]) -> str:
    """Memory, time by part and what comes of it; and what was assumed."""
    numbers = [plan.numbers() for plan in plans]
    rows = [
        ("", [each["topology"] for each in numbers]),
        ("chips", [str(each["chips"]) for each in numbers]),
        (
            "mesh, data x fsdp x tensor",
            [" x ".join(map(str, each["mesh"].values())) for each in numbers],
        ),
        *_memory(numbers),
        *_time(numbers),
        *_phases(plans, numbers),
    ]
    width = max(len(name) for name, _ in rows)
    columns = [max(len(cells[i]) for _, cells in rows) for i in range(len(numbers))]
    lines = [
        "  ".join([name.ljust(width), *(c.rjust(w) for c, w in zip(cells, columns, strict=True))])
        for name, cells in rows
    ]
    said = [
        *notes,
        "All times are estimates: the compiler's, and where it has none by formula:",
        *(f"  {name}: {FORMULAS[name]}" for name in _formulas(numbers)),
    ]
    return "\n".join([*(line.rstrip() for line in lines), "", *said])


def _memory(numbers: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    def gib(size: float) -> str:
        return f"{size / GIB:.2f}"

    names = (PARAMETERS, OPTIMIZER, TEMPORARIES, REST)
    left = [each["hbm_bytes"] - each["bytes_per_chip"] for each in numbers]
    return [
        ("", [""] * len(numbers)),
        ("memory of a chip", ["GiB"] * len(numbers)),
        *((f"  {name}", [gib(each["memory"][name]) for each in numbers]) for name in names),
        ("  all", [gib(each["bytes_per_chip"]) for each in numbers]),
        ("  there is", [gib(each["hbm_bytes"]) for each in numbers]),
        (
            "  fits",
            [f"{gib(size)} left" if size >= 0 else f"no: {gib(-size)} too much" for size in left],
        ),
    ]


def _time(numbers: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    def cells(value: Callable[[dict[str, Any]], str]) -> list[str]:
        return [value(each) if each["step_ms"] else "-" for each in numbers]

    return [
        ("", [""] * len(numbers)),
        ("time of a step, estimated", ["ms"] * len(numbers)),
        *(
            (f"  {name}", cells(lambda each, name=name: f"{each['groups'][name]:.2f}"))
            for name in GROUPS
        ),
        ("  all", cells(lambda each: f"{each['step_ms']:.2f}")),
        *(
            (
                f"    by formula: {name}",
                cells(lambda each, name=name: f"{each['by_formula'].get(name, 0):.2f}"),
            )
            for name in _formulas(numbers)
        ),
        (
            "    moved meanwhile, counted free, GiB",
            cells(lambda each: f"{each['hidden_bytes'] / GIB:.2f}"),
        ),
        ("", [""] * len(numbers)),
        ("MFU, estimated", cells(lambda each: f"{each['mfu']:.1%}")),
        ("sequences a second", cells(lambda each: f"{each['sequences_per_second']:,.0f}")),
        ("steps", cells(lambda each: f"{each['steps']:,}")),
        ("hours for all of them", cells(lambda each: _hours(each["hours"]))),
        ("compiled in, seconds", [f"{each['compile_seconds']:.0f}" for each in numbers]),
    ]


def _formulas(numbers: list[dict[str, Any]]) -> list[str]:
    used = {name for each in numbers for name in each["by_formula"] or ()}
    return [name for name in FORMULAS if name in used]


def _phases(plans: Sequence[SlicePlan], numbers: list[dict[str, Any]]):
    """A line a phase, where there are several: the rest of the table is their mean."""
    count = len(plans[0].steps)
    if count == 1:
        return []
    lines: list[tuple[str, list[str]]] = [("", [""] * len(plans))]
    for number, step in enumerate(plans[0].steps):
        phase = step.phase

        def cell(one: dict[str, Any], all_steps: int = phase.steps) -> str:
            cut = "" if one["steps"] == all_steps else f" for {one['steps']:,} of them"
            return f"{_hours(one['hours'])} h{cut}" if one["step_ms"] else "-"

        lines.append(
            (
                f"phase {number + 1}: {phase.steps:,} steps of {phase.batch_size:,} rows of"
                f" {step.rows.length}",
                [cell(every["phases"][number]) for every in numbers],
            )
        )
    return lines


def _hours(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 10 else f"{hours:.2f}"
