"""The validations of a run: which is best, and whether it is to go on."""

import math
from collections.abc import Sequence
from typing import Any

from bert_jax.errors import Diverged
from bert_jax.tasks.splits import VALIDATION
from bert_jax.training.checkpoint import BEST_METRIC


class Validations:
    """The points of every validation so far, by the metric that chooses among them."""

    def __init__(
        self, logged: Sequence[dict[str, Any]], metric: str, *, higher: bool, patience: int
    ):
        """`logged` are points of the log; `higher`: more of the metric is better."""
        self._points = [point for point in logged if point["split"] == VALIDATION]
        self._metric = metric
        self._higher = higher
        self._patience = patience

    def add(self, point: dict[str, Any]) -> None:
        """Takes the newest."""
        self._points.append(point)

    def best(self) -> dict[str, Any]:
        """Of equals the latest, as the checkpoints have it."""
        return max(reversed(self._points), key=self._value)

    def best_metric(self, step: int) -> dict[str, float]:
        """For the checkpoint of `step`: empty where nothing was validated at that step."""
        if not self._points or self._points[-1]["step"] != step:
            return {}
        return {BEST_METRIC: self._value(self._points[-1])}

    def is_over(self) -> bool:
        """Early stopping: `patience` validations in a row that were not better than the best."""
        values = [self._value(point) for point in self._points]
        return bool(values) and 0 < self._patience <= len(values) - 1 - values.index(max(values))

    def _value(self, point: dict[str, Any]) -> float:
        value = point[self._metric]
        if value is None or not math.isfinite(value):
            raise Diverged(
                f"the validation {self._metric} is not a finite number: training fell apart;"
                " lower config.optimizer.learning_rate and use a new --workdir."
            )
        return value if self._higher else -value
