"""What the curves say: a table, and who reaches whose value after how long."""

from collections.abc import Sequence

from tests.benchmarks.quality.curve import Curve
from tests.benchmarks.quality.heldout import BLOCKS, ROWS

KINDS = {
    BLOCKS: "blocks of text, cut anywhere (where theirs is at home)",
    ROWS: "packed rows of whole instances (where ours is at home)",
}


def table(curves: Sequence[Curve]) -> str:
    """A line a run: its best held-out values, and what it did until its end."""
    lines = [
        "| run | nats, blocks | nats, rows | minutes | updates | tokens | tokens/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for curve in curves:
        end = curve.points[-1]
        lines.append(
            f"| {curve.name} | {curve.lowest(BLOCKS):.3f} | {curve.lowest(ROWS):.3f} |"
            f" {end.seconds / 60:.1f} | {end.step:,} | {end.tokens:,} |"
            f" {end.tokens / end.seconds:,.0f} |"
        )
    return "\n".join(lines)


def comparison(theirs: Sequence[Curve], ours: Sequence[Curve], minutes: float) -> str:
    """For each kind of rows, and each run of ours, when it has the best value of theirs."""
    lines = []
    for kind, words in KINDS.items():
        best = min(theirs, key=lambda curve: curve.lowest(kind))
        target = best.lowest(kind)
        lines += ["", f"{words}: {best.name} has {target:.3f} nats after {minutes:g} minutes."]
        lines += [f"  {_when(curve, kind, target, minutes)}" for curve in ours]
    return "\n".join(lines)


def _when(curve: Curve, kind: str, target: float, minutes: float) -> str:
    point = curve.reached(kind, target)
    if point is None:
        end = curve.points[-1]
        return (
            f"{curve.name}: not reached; {curve.lowest(kind):.3f} at best in"
            f" {end.seconds / 60:.1f} minutes"
        )
    spent = point.seconds / 60
    return (
        f"{curve.name}: {point.losses[kind]:.3f} after {spent:.1f} minutes,"
        f" {spent / minutes:.2f} of the time, {point.step:,} updates, {point.tokens:,} tokens"
    )
