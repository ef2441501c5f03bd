"""One class for a text or a pair of texts: sentiment, topics, entailment."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np
from jaxtyping import Array, Float

from bert_jax.arrays import ClassifyBatch
from bert_jax.errors import InputError, listed
from bert_jax.finetune_config import FinetuneConfig, LabelledDataConfig
from bert_jax.tasks import scores
from bert_jax.tasks.calibration import BINS, expected_error, reliability
from bert_jax.tasks.evaluation_report import MARKDOWN, Section, in_columns, shortened
from bert_jax.tasks.task import Encoded
from bert_jax.tasks.text_task import Example, TextTask, index_of
from bert_jax.text.labelled import LabelledText, as_class, in_order, read_labelled
from bert_jax.training.losses import accuracy, cross_entropy
from bert_jax.training.metrics import Mean


class Classify(TextTask):
    """An answer is the probability of every class."""

    METRICS: ClassVar = {
        "accuracy": True,
        "macro_f1": True,
        "f1": True,
        "matthews": True,
        "loss": False,
    }
    BATCH = ClassifyBatch

    @staticmethod
    def read(source: str, data: LabelledDataConfig) -> list[LabelledText]:
        """The label is the name of a class."""
        return read_labelled(source, data, as_class)

    @staticmethod
    def find_labels(rows: Sequence[LabelledText], data: LabelledDataConfig) -> tuple[str, ...]:
        """Raises InputError where there are no two, or where they are no classes."""
        _check_are_classes(rows)
        labels = in_order({row.label for row in rows})
        if len(labels) < 2:
            raise InputError(f"{data.train} has the one label {labels[0]!r}: two are needed.")
        _check_positive_label(labels, data)
        return labels

    @staticmethod
    def labels_of(row: LabelledText) -> tuple[str, ...]:
        """The one."""
        return (row.label,)

    @classmethod
    def check(cls, config: FinetuneConfig) -> None:
        """F1 is that of one class."""
        super().check(config)
        if config.metric == "f1" and not config.data.positive_label:
            raise InputError(
                "config.metric=f1 is that of config.data.positive_label, which is empty: name"
                " the class, or choose macro_f1."
            )

    def check_data(self, data: LabelledDataConfig) -> None:
        """The positive label is one of the labels."""
        _check_positive_label(self.labels, data)

    def target(self, row: LabelledText) -> int:
        """The index of the class; InputError where it is not known."""
        return index_of(row.label, self.labels, row.where)

    def no_targets(self, rows: int) -> np.ndarray:
        """The first class."""
        return np.zeros(rows, np.int32)

    def any_label(self) -> str:
        """The first class."""
        return self.labels[0]

    def balanced(self, examples: Sequence[Example]) -> list[Example]:
        """Every class counts as much as if there were as many of each."""
        counts = Counter(example.target for example in examples)
        share = len(examples) / len(counts)
        return [e._replace(weight=share / counts[e.target]) for e in examples]

    def losses(
        self, outputs: Float[Array, "B C"], batch: ClassifyBatch
    ) -> tuple[dict[str, Mean], dict[str, Mean]]:
        """Cross-entropy, and the share that is right."""
        rated = (outputs, batch.labels, batch.weights)
        return {"loss": cross_entropy(*rated)}, {"accuracy": accuracy(*rated)}

    def predictions(self, outputs: Float[Array, "B C"], batch: Any) -> Float[Array, "B C"]:
        """Probabilities."""
        del batch
        return jax.nn.softmax(outputs, axis=-1)

    def score(
        self,
        rows: Sequence[LabelledText],
        answers: Sequence[np.ndarray],
        data: LabelledDataConfig,
    ) -> dict[str, float]:
        """`f1` where there is a positive class."""
        positive = self.labels.index(data.positive_label) if data.positive_label else None
        return scores.of_classes(self._targets(rows), np.array(answers), positive)

    def blind(
        self, known: Sequence[LabelledText], rows: Sequence[LabelledText]
    ) -> list[np.ndarray]:
        """The share of every class."""
        counts = np.bincount(self._targets(known), minlength=len(self.labels))
        return [(counts / counts.sum()).astype(np.float32)] * len(rows)

    def details(
        self, rows: Sequence[LabelledText], answers: Sequence[np.ndarray]
    ) -> dict[str, Any]:
        """The confusion matrix, and the expected calibration error."""
        targets, chosen = self._targets(rows), np.array(answers).argmax(axis=-1)
        return {
            "labels": list(self.labels),
            "confusion": scores.confusion(targets, chosen, len(self.labels)),
            "calibration_error": expected_error(
                reliability(np.array(answers).max(axis=-1), targets == chosen, BINS)
            ),
        }

    def findings(
        self,
        rows: Sequence[LabelledText],
        encoded: Encoded,
        answers: Sequence[np.ndarray],
        data: LabelledDataConfig,
    ) -> list[Section]:
        """The confusion matrix, calibration, the worst mistakes, accuracy by length."""
        from bert_jax.tasks import findings  # draws, which a prediction need not wait for

        del data
        lengths = self.lengths(rows, encoded)
        return findings.of_classes(
            rows, lengths, self._targets(rows), np.array(answers), self.labels
        )

    def report(self, result: Mapping[str, Any]) -> list[str]:
        """The confusion matrix, or where it is."""
        from bert_jax.tasks.findings import WIDEST  # draws

        labels = [shortened(label) for label in result["labels"]]
        if len(labels) > WIDEST:
            return [f"confusion of {len(labels):,} classes: see {MARKDOWN}"]
        rows = [
            [label, *(f"{count:,}" for count in counts)]
            for label, counts in zip(labels, result["confusion"], strict=True)
        ]
        lines = in_columns([["", *labels], *rows])
        return ["confusion (rows: true, columns: predicted)", *(f"  {line}" for line in lines)]

    def shown(self, row: LabelledText, answer: np.ndarray) -> dict[str, Any]:
        """The likeliest label, and the probability of each."""
        return {
            **self.said(row),
            "label": self.labels[int(answer.argmax())],
            "probabilities": dict(zip(self.labels, answer.tolist(), strict=True)),
        }

    def _targets(self, rows: Sequence[LabelledText]) -> np.ndarray:
        return np.array([self.target(row) for row in rows])


def _check_positive_label(labels: Sequence[str], data: LabelledDataConfig) -> None:
    if data.positive_label and data.positive_label not in labels:
        raise InputError(
            f"config.data.positive_label={data.positive_label!r} is none of the labels: choose"
            f" one of {listed(labels)}."
        )


def _check_are_classes(rows: Sequence[LabelledText]) -> None:
    """Raises InputError where labels are numbers that are not whole: some where there are numbers
    alone, most where there are words too, such as for a value that is missing."""
    values = [_number(row.label) for row in rows]
    fractions = [
        row
        for row, value in zip(rows, values, strict=True)
        if value is not None and not value.is_integer()
    ]
    are_classes = None in values and 2 * len(fractions) <= len(rows)
    if fractions and not are_classes:
        raise InputError(
            f"{fractions[0].where}: the label {fractions[0].label!r} is a number and no class: set"
            " config.task=regress, or write classes in words."
        )


def _number(label: str) -> float | None:
    try:
        return float(label)
    except ValueError:
        return None
