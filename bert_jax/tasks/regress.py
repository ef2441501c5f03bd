"""A number for a text or a pair of texts: similarity, stars, prices."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Array, Float

from bert_jax.arrays import RegressBatch
from bert_jax.finetune_config import LabelledDataConfig
from bert_jax.tasks import scores
from bert_jax.tasks.evaluation_report import Section
from bert_jax.tasks.task import Encoded
from bert_jax.tasks.text_task import TextTask
from bert_jax.text.labelled import LabelledText, as_value, read_labelled
from bert_jax.training.losses import squared_error
from bert_jax.training.metrics import Mean

VALUE = "value"


class Regress(TextTask):
    """An answer is a number, as large as the labels are: those should be near 1 in size, for
    at usual rates larger ones are not reached."""

    METRICS: ClassVar = {"pearson": True, "spearman": True, "mse": False}
    BATCH = RegressBatch

    @staticmethod
    def read(source: str, data: LabelledDataConfig) -> list[LabelledText]:
        """The label is a number."""
        return read_labelled(source, data, as_value)

    @staticmethod
    def find_labels(rows: Sequence[LabelledText], data: LabelledDataConfig) -> tuple[str, ...]:
        """One output, whatever the rows hold."""
        del rows, data
        return (VALUE,)

    def target(self, row: LabelledText) -> float:
        """The label."""
        return row.label

    def no_targets(self, rows: int) -> np.ndarray:
        """Zeros."""
        return np.zeros(rows, np.float32)

    def any_label(self) -> float:
        """Zero."""
        return 0.0

    def losses(
        self, outputs: Float[Array, "B 1"], batch: RegressBatch
    ) -> tuple[dict[str, Mean], dict[str, Mean]]:
        """Mean squared error."""
        return {"loss": squared_error(outputs[:, 0], batch.values, batch.weights)}, {}

    def predictions(self, outputs: Float[Array, "B 1"], batch: Any) -> Float[Array, "B"]:
        """The values."""
        del batch
        return outputs[:, 0]

    def score(
        self,
        rows: Sequence[LabelledText],
        answers: Sequence[np.floating],
        data: LabelledDataConfig,
    ) -> dict[str, float]:
        """Correlations and the mean squared error."""
        del data
        return scores.of_values(np.array([row.label for row in rows]), np.array(answers))

    def blind(
        self, known: Sequence[LabelledText], rows: Sequence[LabelledText]
    ) -> list[np.floating]:
        """The mean."""
        return [np.mean([row.label for row in known])] * len(rows)

    def findings(
        self,
        rows: Sequence[LabelledText],
        encoded: Encoded,
        answers: Sequence[np.floating],
        data: LabelledDataConfig,
    ) -> list[Section]:
        """A scatter plot, the worst rows, differences by length."""
        from bert_jax.tasks import findings  # draws, which a prediction need not wait for

        del data
        targets = np.array([row.label for row in rows])
        values = np.array(answers).astype(np.float64)
        return findings.of_values(rows, self.lengths(rows, encoded), targets, values)

    def shown(self, row: LabelledText, answer: np.floating) -> dict[str, Any]:
        """The value."""
        return {**self.said(row), VALUE: float(answer)}
