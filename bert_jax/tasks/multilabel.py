"""Any number of classes for a text or a pair of texts."""

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import numpy as np
from jaxtyping import Array, Float

from bert_jax.arrays import MultilabelBatch
from bert_jax.errors import InputError
from bert_jax.finetune_config import LabelledDataConfig
from bert_jax.tasks import scores
from bert_jax.tasks.evaluation_report import Section
from bert_jax.tasks.task import Encoded
from bert_jax.tasks.text_task import TextTask, index_of
from bert_jax.text.labelled import LabelledText, as_classes, in_order, read_labelled
from bert_jax.training.losses import binary_cross_entropy
from bert_jax.training.metrics import Mean

THRESHOLD = 0.5  # a label is given from this probability on


class Multilabel(TextTask):
    """An answer is the probability of every class, each for itself."""

    METRICS: ClassVar = {"micro_f1": True, "macro_f1": True, "accuracy": True, "loss": False}
    BATCH = MultilabelBatch

    @staticmethod
    def read(source: str, data: LabelledDataConfig) -> list[LabelledText]:
        """The label is the names of classes, sorted."""
        label_of = functools.partial(as_classes, separator=data.label_separator)
        return read_labelled(source, data, label_of)

    @staticmethod
    def find_labels(rows: Sequence[LabelledText], data: LabelledDataConfig) -> tuple[str, ...]:
        """Raises InputError where there is none."""
        labels = in_order({label for row in rows for label in row.label})
        if not labels:
            raise InputError(
                f"{data.train} has no label in field {data.label_field!r}: name the field that"
                " holds them."
            )
        return labels

    @staticmethod
    def labels_of(row: LabelledText) -> tuple[str, ...]:
        """All that it has."""
        return row.label

    def target(self, row: LabelledText) -> np.ndarray:
        """1 for each class that the text has."""
        target = np.zeros(len(self.labels), np.float32)
        target[[index_of(label, self.labels, row.where) for label in row.label]] = 1
        return target

    def no_targets(self, rows: int) -> np.ndarray:
        """No class."""
        return np.zeros((rows, len(self.labels)), np.float32)

    def any_label(self) -> tuple[str, ...]:
        """No class."""
        return ()

    def losses(
        self, outputs: Float[Array, "B C"], batch: MultilabelBatch
    ) -> tuple[dict[str, Mean], dict[str, Mean]]:
        """Cross-entropy of every class with and without it."""
        return {"loss": binary_cross_entropy(outputs, batch.labels, batch.weights)}, {}

    def predictions(self, outputs: Float[Array, "B C"], batch: Any) -> Float[Array, "B C"]:
        """Probabilities."""
        del batch
        return jax.nn.sigmoid(outputs)

    def score(
        self,
        rows: Sequence[LabelledText],
        answers: Sequence[np.ndarray],
        data: LabelledDataConfig,
    ) -> dict[str, float]:
        """F1 over all decisions, over the classes, and the share of texts with no mistake."""
        del data
        return scores.of_sets(self._targets(rows), np.array(answers), THRESHOLD)

    def blind(
        self, known: Sequence[LabelledText], rows: Sequence[LabelledText]
    ) -> list[np.ndarray]:
        """The share of texts that have each class."""
        return [self._targets(known).mean(axis=0)] * len(rows)

    def findings(
        self,
        rows: Sequence[LabelledText],
        encoded: Encoded,
        answers: Sequence[np.ndarray],
        data: LabelledDataConfig,
    ) -> list[Section]:
        """Precision, recall and F1 of each class, the worst mistakes, accuracy by length."""
        from bert_jax.tasks import findings  # draws, which a prediction need not wait for

        del data
        return findings.of_sets(
            rows,
            self.lengths(rows, encoded),
            self._targets(rows) > 0,
            np.array(answers),
            self.labels,
            THRESHOLD,
        )

    def shown(self, row: LabelledText, answer: np.ndarray) -> dict[str, Any]:
        """The labels from THRESHOLD on, and the probability of each there is."""
        found = dict(zip(self.labels, answer.tolist(), strict=True))
        return {
            **self.said(row),
            "labels": [label for label, probability in found.items() if probability >= THRESHOLD],
            "probabilities": found,
        }

    def _targets(self, rows: Sequence[LabelledText]) -> np.ndarray:
        return np.array([self.target(row) for row in rows])
