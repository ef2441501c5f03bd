"""What a report of an evaluation says of the rows: where they are wrong, and how sure."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from bert_jax.tasks import evaluation_plots, scores
from bert_jax.tasks.calibration import BINS, expected_error, reliability
from bert_jax.tasks.evaluation_report import NOT_DEFINED, Plot, Section, Table
from bert_jax.text.choices import ChoiceText
from bert_jax.text.labelled import LabelledText

WORST = 20
LENGTH_BINS = 5
CONFUSED = 30  # pairs of classes, where there are too many classes for a matrix
WIDEST = 12  # classes whose matrix is a table


class Said(NamedTuple):
    """A part of a text as an answer, right or wrong."""

    row: LabelledText  # its label is not looked at
    true: str  # what should have been said
    said: str
    is_right: bool
    confidence: float


def of_classes(
    rows: Sequence[LabelledText],
    lengths: Int[np.ndarray, "N"],
    targets: Int[np.ndarray, "N"],
    probabilities: Float[np.ndarray, "N C"],
    labels: Sequence[str],
) -> list[Section]:
    """Of texts with one class each."""
    predicted = probabilities.argmax(axis=-1)
    counts = scores.confusion(targets, predicted, len(labels))
    is_there = np.eye(len(labels), dtype=bool)
    return [
        *_confusion(counts, labels),
        _by_class(is_there[targets], is_there[predicted], labels),
        *calibration(probabilities.max(axis=-1), predicted == targets),
        most_confident_mistakes(
            rows,
            probabilities.max(axis=-1),
            predicted == targets,
            lambda row: (labels[targets[row]], labels[predicted[row]]),
        ),
        by_length(lengths, predicted == targets),
    ]


def of_sets(
    rows: Sequence[LabelledText],
    lengths: Int[np.ndarray, "N"],
    targets: Bool[np.ndarray, "N C"],
    probabilities: Float[np.ndarray, "N C"],
    labels: Sequence[str],
    threshold: float,
) -> list[Section]:
    """Of texts with any number of classes. The confidence is that of the whole set, the
    product over the classes."""
    predicted = probabilities >= threshold
    sure = np.where(predicted, probabilities, 1 - probabilities)
    is_right = (predicted == targets).all(axis=1)

    def named(found: Bool[np.ndarray, "C"]) -> str:
        return ", ".join(labels[n] for n in np.flatnonzero(found)) or NOT_DEFINED

    return [
        _by_class(targets, predicted, labels),
        *calibration(sure.prod(axis=1), is_right),
        most_confident_mistakes(
            rows,
            sure.prod(axis=1),
            is_right,
            lambda row: (named(targets[row]), named(predicted[row])),
        ),
        by_length(lengths, is_right),
    ]


def of_values(
    rows: Sequence[LabelledText],
    lengths: Int[np.ndarray, "N"],
    targets: Float[np.ndarray, "N"],
    values: Float[np.ndarray, "N"],
) -> list[Section]:
    """Of texts with a number each."""
    apart = np.abs(values - targets)
    worst = np.argsort(-apart, kind="stable")[:WORST]
    table = [
        (*_texts(rows[row]), float(targets[row]), float(values[row]), float(apart[row]))
        for row in worst
    ]
    return [
        Plot(
            "Predicted against true values",
            "On the dashed line they are equal.",
            evaluation_plots.draw_scatter(targets, values),
        ),
        Table(
            f"The {len(table)} rows that are worst",
            "",
            (*_text_header(rows), "true", "predicted", "difference"),
            table,
        ),
        mean_by_length("Difference", lengths, apart),
    ]


def of_tags(
    types: Mapping[str, Mapping[str, float]],
    said: Sequence[Said],
    lengths: Int[np.ndarray, "N"],
    right_words: Float[np.ndarray, "N"],
) -> list[Section]:
    """Of texts with a tag for each word. `said`: every entity found; `right_words`: the share of
    each text whose tag is right. Calibration is that of the entities found."""
    names = ("precision", "recall", "f1", "entities")
    table = [(name, *(one[key] for key in names)) for name, one in types.items()]
    note = "An entity is right if its type, its first and its last word are."
    return [
        Table("Types", note, ("type", "precision", "recall", "F1", "entities"), table),
        *(_calibration_of(said) if said else []),
        _of_answers(said),
        mean_by_length("Share of right tags", lengths, right_words),
    ]


def of_spans(answers: Sequence[Said], lengths: Int[np.ndarray, "N"]) -> list[Section]:
    """Of questions, with the answer to each."""
    is_right = np.array([one.is_right for one in answers])
    return [*_calibration_of(answers), _of_answers(answers), by_length(lengths, is_right)]


def _calibration_of(said: Sequence[Said]) -> list[Section]:
    return calibration(
        np.array([one.confidence for one in said], np.float64),
        np.array([one.is_right for one in said], bool),
    )


def _of_answers(said: Sequence[Said]) -> Table:
    return most_confident_mistakes(
        [one.row for one in said],
        np.array([one.confidence for one in said], np.float64),
        np.array([one.is_right for one in said], bool),
        lambda n: (said[n].true, said[n].said),
    )


def calibration(
    confidences: Float[np.ndarray, "N"], is_right: Bool[np.ndarray, "N"]
) -> list[Section]:
    """The reliability diagram and its numbers."""
    bins = reliability(confidences, is_right, BINS)
    note = (
        f"Expected calibration error {expected_error(bins):.4f}: the mean distance of accuracy"
        f" and confidence (the probability of the chosen answer) over {BINS} bins of equal width,"
        " weighted by their rows (Guo et al., arXiv:1706.04599)."
    )
    table = [
        (f"{bin.low:.3f} to {bin.high:.3f}", bin.rows, bin.confidence, bin.accuracy)
        for bin in bins
        if bin.rows
    ]
    return [
        Plot("Reliability", note, evaluation_plots.draw_reliability(bins)),
        Table("Reliability by bin", "", ("confidence", "rows", "mean", "accuracy"), table),
    ]


def most_confident_mistakes(
    rows: Sequence[LabelledText | ChoiceText],
    confidences: Float[np.ndarray, "N"],
    is_right: Bool[np.ndarray, "N"],
    answers: Callable[[int], tuple[str, str]],
) -> Table:
    """`answers`: what is true of a row and what was said, by its index."""
    order = np.argsort(-confidences, kind="stable")
    worst = [int(row) for row in order if not is_right[row]][:WORST]
    table = [
        (*_texts(rows[row]), *answers(row), float(confidences[row]), rows[row].where)
        for row in worst
    ]
    return Table(
        f"The {len(table)} most confident mistakes",
        "Texts on one line, long ones shortened.",
        (*_text_header(rows), "true", "predicted", "confidence", "row"),
        table,
    )


def by_length(lengths: Int[np.ndarray, "N"], is_right: Bool[np.ndarray, "N"]) -> Table:
    """How often short texts are right, and long ones."""
    lines = []
    for span, chosen in _length_bins(lengths):
        right = float(is_right[chosen].mean())
        error = float(np.sqrt(right * (1 - right) / chosen.sum()))
        lines.append((span, int(chosen.sum()), right, error))
    note = "Tokens before anything is cut, special ones included; bins of about as many rows."
    header = ("tokens", "rows", "accuracy", "binomial standard error")
    return Table("Accuracy by length", note, header, lines)


def mean_by_length(
    name: str, lengths: Int[np.ndarray, "N"], values: Float[np.ndarray, "N"]
) -> Table:
    """Of a value of each row."""
    lines = []
    for span, chosen in _length_bins(lengths):
        found = values[chosen]
        error = float(found.std() / np.sqrt(len(found)))
        lines.append((span, len(found), float(found.mean()), error))
    header = ("tokens", "rows", f"mean {name.lower()}", "standard error")
    return Table(f"{name} by length", "In bins of about as many rows.", header, lines)


def _length_bins(lengths: Int[np.ndarray, "N"]) -> list[tuple[str, Bool[np.ndarray, "N"]]]:
    """The quantiles of the lengths as text, with the rows in them. Equal lengths share a bin."""
    ends = np.unique(np.quantile(lengths, np.arange(1, LENGTH_BINS + 1) / LENGTH_BINS))
    found, below = [], 0.0
    for end in ends:
        chosen = (lengths > below) & (lengths <= end)
        below = end
        if chosen.any():
            found.append((f"{lengths[chosen].min()} to {lengths[chosen].max()}", chosen))
    return found


def _confusion(counts: list[list[int]], labels: Sequence[str]) -> list[Section]:
    plot = Plot(
        "Confusion matrix",
        "Classes are in the order of the table; numbered from 1 where no font here has their"
        " names.",
        evaluation_plots.draw_confusion(counts, labels),
    )
    if len(labels) <= WIDEST:
        rows = [(label, *found) for label, found in zip(labels, counts, strict=True)]
        header = ("true \\ predicted", *labels)
        return [plot, Table("Confusion in numbers", "", header, rows)]
    pairs = [
        (count, labels[true], labels[predicted])
        for true, found in enumerate(counts)
        for predicted, count in enumerate(found)
        if count and true != predicted
    ]
    pairs.sort(key=lambda pair: -pair[0])
    rows = [(true, predicted, count) for count, true, predicted in pairs[:CONFUSED]]
    return [plot, Table("Most frequent confusions", "", ("true", "predicted", "rows"), rows)]


def _by_class(
    targets: Bool[np.ndarray, "N C"], predicted: Bool[np.ndarray, "N C"], labels: Sequence[str]
) -> Table:
    both = (targets & predicted).sum(axis=0)
    there, said = targets.sum(axis=0), predicted.sum(axis=0)
    precision, recall = both / np.maximum(said, 1), both / np.maximum(there, 1)
    f1 = 2 * both / np.maximum(there + said, 1)
    columns = (precision.tolist(), recall.tolist(), f1.tolist(), there.tolist(), said.tolist())
    rows = list(zip(labels, *columns, strict=True))
    header = ("class", "precision", "recall", "F1", "rows", "predicted")
    return Table("Classes", "0 where nothing is to be divided.", header, rows)


def _texts(row: LabelledText | ChoiceText) -> tuple[str, ...]:
    return (row.text, row.pair) if row.pair else (row.text,)


def _text_header(rows: Sequence[LabelledText | ChoiceText]) -> tuple[str, ...]:
    return ("text", "second text") if rows and rows[0].pair else ("text",)
