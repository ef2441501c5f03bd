"""What a run has reached after which training time, and where it meets another's value."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bert_jax.training.clock import EVALUATING, SAVING
from bert_jax.workdir import write_json

FILE = "curve.json"
POINTS = 20  # that a run is evaluated at, more or less
NOT_TRAINING = (EVALUATING, SAVING)


class Point(NamedTuple):
    """A model on its way."""

    seconds: float  # of training
    step: int  # updates
    tokens: int  # real ones, read until there
    losses: dict[str, float]  # held-out, by kind of rows; empty before it is evaluated


class Curve(NamedTuple):
    """A run; `made_with` is all that it depends on."""

    name: str
    made_with: dict[str, Any]
    points: list[Point]

    def lowest(self, kind: str) -> float:
        """The best held-out loss, wherever on its way."""
        losses = (point.losses[kind] for point in self.points)
        return min((loss for loss in losses if math.isfinite(loss)), default=math.inf)

    def reached(self, kind: str, target: float) -> Point | None:
        """The first point that is as good: nothing is interpolated."""
        return next((point for point in self.points if point.losses[kind] <= target), None)

    def save(self, directory: Path) -> None:
        """Leaves it in the run's folder."""
        points = [point._asdict() for point in self.points]
        write_json(directory / FILE, {"made_with": self.made_with, "points": points})


def read(directory: Path) -> Curve | None:
    """The curve of a run that has ended, or None."""
    path = directory / FILE
    if not path.exists():
        return None
    found = json.loads(path.read_text("utf-8"))
    points = [Point(**point) for point in found["points"]]
    return Curve(directory.name, found["made_with"], points)


def training_seconds(spent: Mapping[str, float]) -> float:
    """All that a clock has booked but evaluating and saving, which only the comparison needs."""
    return sum(seconds for activity, seconds in spent.items() if activity not in NOT_TRAINING)


def tokens_at(steps: Iterable[int], logged: Iterable[tuple[int, float]]) -> list[int]:
    """Tokens read by each of `steps`; `logged` are the steps of a log's points with the mean
    tokens of a step since the one before."""
    logged, found = list(logged), []
    for step in steps:
        total, before = 0.0, 0
        for point, tokens in logged:
            total += tokens * max(min(point, step) - before, 0)
            before = point
        found.append(round(total))
    return found
