"""Metrics of classes, sets of classes, values and entities, by the definitions of scikit-learn,
scipy and seqeval."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from bert_jax.text.tags import Entity

LEAST = 1e-12  # probability in a logarithm
RESAMPLES = 100  # which leave an error of 7 % in a standard error


def standard_errors(
    score: Callable[[Int[np.ndarray, "N"]], dict[str, float]], rows: int
) -> dict[str, float]:
    """Of each metric that every draw has, by the bootstrap: how it scatters over draws of as many
    rows with replacement. `score` gives the metrics of rows by their indices."""
    if rows < 2:
        return {}
    rng = np.random.default_rng(0)
    found = [score(rng.integers(rows, size=rows)) for _ in range(RESAMPLES)]
    # Some metrics are there only where a draw has rows of some kind: those have none.
    names = [name for name in found[0] if all(name in one for one in found)]
    return {name: float(np.std([one[name] for one in found], ddof=1)) for name in names}


def of_classes(
    targets: Int[np.ndarray, "N"], probabilities: Float[np.ndarray, "N C"], positive: int | None
) -> dict[str, float]:
    """Accuracy, F1 as the mean over the classes that rows have or are given, Matthews'
    correlation, mean cross-entropy in nats; and `f1` of the class `positive`."""
    from sklearn import metrics  # a second to import, which a prediction need not wait for

    predicted = probabilities.argmax(axis=-1)
    likelihood = np.maximum(probabilities[np.arange(len(targets)), targets], LEAST)
    is_mixed = len({*targets.tolist(), *predicted.tolist()}) > 1

    def f1(labels: list[int] | None) -> float:  # None: of those that are there or said to be
        found = metrics.f1_score(
            targets, predicted, labels=labels, average="macro", zero_division=0.0
        )
        return float(found)

    found = {
        "accuracy": float(metrics.accuracy_score(targets, predicted)),
        "macro_f1": f1(None),
        # Of one class alone, on both sides, scikit-learn warns.
        "matthews": float(metrics.matthews_corrcoef(targets, predicted)) if is_mixed else 0.0,
        "loss": float(-np.log(likelihood).mean()),
    }
    return found if positive is None else found | {"f1": f1([positive])}


def confusion(
    targets: Int[np.ndarray, "N"], predicted: Int[np.ndarray, "N"], classes: int
) -> list[list[int]]:
    """Counts with a row for each true class and a column for each predicted one."""
    from sklearn import metrics

    return metrics.confusion_matrix(targets, predicted, labels=range(classes)).tolist()


def of_sets(
    targets: Float[np.ndarray, "N C"], probabilities: Float[np.ndarray, "N C"], threshold: float
) -> dict[str, float]:
    """F1 over all decisions and as the mean over the classes, the share of rows whose set is
    right, mean binary cross-entropy in nats."""
    predicted, truth = probabilities >= threshold, targets > 0
    likelihood = np.maximum(np.where(truth, probabilities, 1 - probabilities), LEAST)

    def f1(axis: int | None) -> float:  # that of scikit-learn takes one class for no set
        both, sizes = (truth & predicted).sum(axis), predicted.sum(axis) + truth.sum(axis)
        return float(np.mean(2 * both / np.maximum(sizes, 1)))

    return {
        "micro_f1": f1(None),
        "macro_f1": f1(0),
        "accuracy": float((predicted == truth).all(axis=1).mean()),
        "loss": float(-np.log(likelihood).mean()),
    }


def of_values(targets: Float[np.ndarray, "N"], values: Float[np.ndarray, "N"]) -> dict[str, float]:
    """Pearson's and Spearman's correlation, 0 where one side is constant, and the mean squared
    error."""
    from scipy import stats

    targets, values = targets.astype(np.float64), values.astype(np.float64)
    found = {"pearson": 0.0, "spearman": 0.0, "mse": float(np.mean((values - targets) ** 2))}
    if np.ptp(targets) and np.ptp(values):
        found["pearson"] = float(stats.pearsonr(targets, values).statistic)
        found["spearman"] = float(stats.spearmanr(targets, values).statistic)
    return found


class Retrieval(NamedTuple):
    """0 where it would be a division by 0."""

    precision: float
    recall: float
    f1: float


class EntityScores(NamedTuple):
    together: Retrieval  # over all entities, of whatever type
    types: dict[str, Retrieval]
    support: dict[str, int]  # how many there are of each type


class Counts(NamedTuple):
    """Of entities."""

    right: int
    said: int
    there: int

    @property
    def retrieval(self) -> Retrieval:
        """The rates."""
        return _retrieval(*self)


def count_entities(true: Sequence[Entity], given: Sequence[Entity]) -> Counts:
    """Of one text, by the rule of `of_entities`."""
    return Counts(len({*true} & {*given}), len(given), len(true))


def of_entities(
    targets: Sequence[Sequence[Entity]], found: Sequence[Sequence[Entity]]
) -> EntityScores:
    """An entity is right if its type, its first and its last word are."""
    there, said, right = (Counter[str]() for _ in range(3))
    for true, given in zip(targets, found, strict=True):
        there.update(entity.type for entity in true)
        said.update(entity.type for entity in given)
        right.update(entity.type for entity in set(true) & set(given))
    return EntityScores(
        _retrieval(right.total(), said.total(), there.total()),
        {name: _retrieval(right[name], said[name], there[name]) for name in {*there, *said}},
        {name: there[name] for name in {*there, *said}},
    )


def _retrieval(right: int, said: int, there: int) -> Retrieval:
    return Retrieval(right / max(said, 1), right / max(there, 1), 2 * right / max(said + there, 1))
