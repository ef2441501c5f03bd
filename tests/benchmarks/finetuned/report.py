"""What two systems come to over the same seeds, and how they compare."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

NAMES = {"ours": "bert_jax", "theirs": "Hugging Face"}


class Seconds(NamedTuple):
    """Of one run."""

    training: float  # steps and the batches for them, without compilation
    compiling: float  # the step; 0 where nothing is compiled
    evaluating: float  # all validations


class Result(NamedTuple):
    """One run: the metrics of the best validation, and of the test rows there."""

    validation: dict[str, float]
    test: dict[str, float]
    steps: int  # done; early stopping may have left some out
    seconds: Seconds

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Result":
        """From JSON."""
        seconds = Seconds(**values["seconds"])
        return cls(values["validation"], values["test"], values["steps"], seconds)

    def json(self) -> dict[str, Any]:
        """To JSON."""
        return self._asdict() | {"seconds": self.seconds._asdict()}

    def epoch(self, steps_per_epoch: int, *, compiling: bool) -> float:
        """Seconds an epoch."""
        seconds = self.seconds.training + compiling * self.seconds.compiling
        return seconds / self.steps * steps_per_epoch


Results = Mapping[str, Mapping[int, Result]]  # by system and seed


def report(results: Results, metric: str, steps_per_epoch: int) -> list[str]:
    """A line for every metric and system, the time of an epoch, and how the two compare."""
    seeds = list(next(iter(results.values())))
    lines = [f"{'':42}{'mean':>9}{'std':>9}" + "".join(f"{f'seed {s}':>9}" for s in seeds)]

    def line(name: str, values: Sequence[float]) -> None:
        numbers = [statistics.fmean(values), deviation(values), *values]
        lines.append(f"{name:42}" + "".join(f"{number:>9.4g}" for number in numbers))

    for split in ("validation", "test"):
        for name in getattr(next(iter(results[next(iter(results))].values())), split):
            for system, runs in results.items():
                values = [getattr(run, split)[name] for run in runs.values()]
                line(f"{split} {name}, {NAMES[system]}", values)
    epochs = epoch_seconds(results, steps_per_epoch)
    for name, values in epochs.items():
        line(f"seconds an epoch, {name}", values)
    for system, runs in results.items():
        evaluating = [run.seconds.evaluating for run in runs.values()]
        line(f"seconds of validations, {NAMES[system]}", evaluating)
    if len(results) > 1:
        theirs = epochs.pop(NAMES["theirs"])
        for name, ours in epochs.items():
            line(f"Hugging Face / {name}", [b / a for a, b in zip(ours, theirs, strict=True)])
        for split in ("validation", "test"):
            both = [
                [getattr(run, split)[metric] for run in results[system].values()]
                for system in ("ours", "theirs")
            ]
            lines.append(f"{split} {metric}: {verdict(*both)}")
    return lines


def epoch_seconds(results: Results, steps_per_epoch: int) -> dict[str, list[float]]:
    """Of every seed; ours without and with compilation."""
    found = {}
    for system, runs in results.items():
        each = runs.values()
        found[NAMES[system]] = [run.epoch(steps_per_epoch, compiling=False) for run in each]
        if system == "ours":
            name = f"{NAMES[system]} with compilation"
            found[name] = [run.epoch(steps_per_epoch, compiling=True) for run in each]
    return found


def verdict(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Whether our mean lies within theirs and one standard deviation, and Welch's t-test."""
    mean, centre, spread = statistics.fmean(ours), statistics.fmean(theirs), deviation(theirs)
    if math.isnan(spread):
        return f"our mean {mean:.4f} beside their {centre:.4f}; one seed has no spread"
    place = "within" if abs(mean - centre) <= spread else "above" if mean > centre else "below"
    return (
        f"our mean {mean:.4f} lies {place} their {centre:.4f} ± {spread:.4f} (one standard"
        f" deviation); Welch's t-test, two-sided: p = {welch(ours, theirs):.3f}"
    )


def welch(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The p value of equal means."""
    from scipy import stats

    if deviation(ours) == deviation(theirs) == 0:  # which scipy has no number for
        return float(statistics.fmean(ours) == statistics.fmean(theirs))
    sides = [(statistics.fmean(v), deviation(v), len(v)) for v in (ours, theirs)]
    # Not from the values: of equal ones scipy warns.
    return float(stats.ttest_ind_from_stats(*sides[0], *sides[1], equal_var=False).pvalue)


def deviation(values: Sequence[float]) -> float:
    """That of a sample; nan of one value."""
    return statistics.stdev(values) if len(values) > 1 else math.nan
