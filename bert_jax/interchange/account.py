"""What became of every tensor of a conversion, and the table that says it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from bert_jax.interchange.names import MODULES, Params

SHOWN = 3  # names of a line


class Made(NamedTuple):
    """What came from nobody's file."""

    how: str
    numbers: int  # so many
    parameter: str  # the whole of it, or rows of it


@dataclass
class Account:
    """Where everything came from and went to."""

    loaded: dict[str, str] = field(default_factory=dict)  # parameter -> tensor in the file
    left_out: dict[str, str] = field(default_factory=dict)  # tensor in the file -> why
    made: dict[str, Made] = field(default_factory=dict)  # by what it is to be called
    converted: dict[str, int] = field(default_factory=dict)  # type in the file -> tensors


def table(account: Account, params: Params) -> str:
    """A line for each module, and for each reason to leave out or make something."""
    lines = [f"{'':12}{'tensors':>9}{'parameters':>15}"]
    for module in MODULES:
        paths = [path for path in account.loaded if path.split("/")[0] == module]
        if paths:
            rows = [made.numbers for made in account.made.values() if made.parameter in paths]
            count = sum(params[path].size for path in paths) - sum(rows)
            lines.append(f"{module:12}{len(paths):>9,}{count:>15,}  loaded")
        elif module in ("encoder", "pooler", "mlm", "next"):
            lines.append(f"{module:12}{0:>9}{0:>15}  not there")
    for why, found in _by_value(account.left_out).items():
        lines.append(f"{'left out':12}{len(found):>9,}{'':>15}  {_named(found)}: {why}")
    for how, found in _by_value({path: made.how for path, made in account.made.items()}).items():
        count = sum(account.made[path].numbers for path in found)
        lines.append(f"{'made anew':12}{len(found):>9,}{count:>15,}  {_named(found)}: {how}")
    for kind, count in account.converted.items():
        what, note = ("rounded", "") if kind == "float64" else ("widened", ", the same numbers")
        lines.append(f"{what:12}{count:>9,}{'':>15}  {kind} to float32{note}")
    return "\n".join(lines)


def _by_value(reasons: dict[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, why in reasons.items():
        found.setdefault(why, []).append(name)
    return found


def _named(found: Iterable[str]) -> str:
    found = list(found)
    rest = len(found) - SHOWN
    return ", ".join(found[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
