"""What a training tells at its log points, and when it calls a run hopeless."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import PyTree

from bert_jax.training.clock import LOGGING, STEPPING, WAITING, Clock
from bert_jax.training.logging import RunLog
from bert_jax.training.metrics import SKIPPED, TOKENS, Mean, add, divide

# What depends on the machine and the moment, and so differs between equal runs.
TIMING = (
    "step_ms",
    "tokens_per_second",
    "padded_tokens_per_second",
    "data_wait_share",
    "mfu",
    "goodput",
)


class StepCost(NamedTuple):
    """What the step on one batch is worth."""

    padded_tokens: int  # rows x T
    flops: float  # of the model's arithmetic, without what is computed twice


class Report:
    """The means since the last log point, and what is said beside them.

    `cost` tells what a batch is worth; `peak_flops` are those a second of all devices together,
    None where they are not known. `name_batch` names the batch that a step reads. `remark` may
    answer a point with a line to print. `record` is what `record()` gave at the checkpoint gone on
    from: a run stopped between two points logs the second as if it had not been.
    """

    def __init__(
        self,
        log: RunLog,
        clock: Clock,
        cost: Callable[[PyTree], StepCost],
        *,
        peak_flops: float | None,
        shown: Mapping[str, str],
        max_skipped: int,
        name_batch: Callable[[int], str],
        remark: Callable[[int, dict[str, float]], str | None] = lambda step, metrics: None,
        record: Mapping[str, Any] | None = None,
    ):
        self._log = log
        self.clock = clock
        self._cost = cost
        self._peak_flops = peak_flops
        self._shown = shown
        self._max_skipped = max_skipped
        self._name_batch = name_batch
        self._remark = remark
        record = record or {}
        self._total = {name: Mean(*mean) for name, mean in record.get("window", {}).items()}
        self.skipped_in_a_row = record.get("skipped_in_a_row", 0)
        if self.is_hopeless:  # it ended the run before: whoever goes on has mended something
            self.skipped_in_a_row = 0
        self._parameter_norm = jax.jit(optax.tree.norm)
        self._begin_timing()

    def reads(self, batch: PyTree) -> None:
        """Takes the batch of the next step."""
        cost = self._cost(batch)
        self._padded_tokens += cost.padded_tokens
        self._flops += cost.flops

    def add(self, step: int, means: Mapping[str, Mean]) -> None:
        """Takes what step number `step` (from 1) measured; waits until it has."""
        means = jax.device_get(means)
        self._total = add(self._total, means)
        self._steps += 1
        self._tokens += float(means[TOKENS].total)
        if means[SKIPPED].total:
            self.skipped_in_a_row += 1
            self._log.say(
                f"step {step}: the loss or its gradient is not finite, the update is skipped"
                f" ({self._name_batch(step)})."
            )
        else:
            self.skipped_in_a_row = 0

    @property
    def is_hopeless(self) -> bool:
        """As many updates skipped in a row as the config allows."""
        return self.skipped_in_a_row >= self._max_skipped

    def point(self, step: int, params: PyTree) -> None:
        """Logs the means since the last point and begins anew."""
        timing = self._timing()
        with self.clock.spend(LOGGING):
            metrics = divide(self._total)
            metrics[SKIPPED] = self._total[SKIPPED].total
            metrics["parameter_norm"] = float(self._parameter_norm(params))
            metrics |= timing
            self._log.write(step, "train", metrics)
            shown = {short: metrics[name] for name, short in self._shown.items() if name in metrics}
            self._log.progress(step, shown)
            if line := self._remark(step, metrics):
                self._log.say(line)
        self._total = {}
        self._begin_timing()

    def progress(self, step: int) -> None:
        """Moves the progress bar."""
        self._log.progress(step, {})

    def record(self) -> dict[str, Any]:
        """What a checkpoint keeps: of the open window the sums, of the clock the times."""
        return {
            "window": {name: [float(v) for v in mean] for name, mean in self._total.items()},
            "skipped_in_a_row": self.skipped_in_a_row,
            "clock": self.clock.record(),
        }

    def _begin_timing(self) -> None:
        self._steps = 0
        self._tokens = self._padded_tokens = self._flops = 0.0
        self._began = self.clock.spent()

    def _timing(self) -> dict[str, float]:
        """Of the steps that this process did since the last point."""
        spent = self.clock.spent()
        stepping, waiting = (
            spent.get(a, 0.0) - self._began.get(a, 0.0) for a in (STEPPING, WAITING)
        )
        seconds = max(stepping + waiting, 1e-9)
        peak = self._peak_flops
        return {
            "step_ms": 1000 * seconds / max(self._steps, 1),
            "tokens_per_second": self._tokens / seconds,
            "padded_tokens_per_second": self._padded_tokens / seconds,
            "data_wait_share": waiting / seconds,
            "mfu": float("nan") if peak is None else self._flops / seconds / peak,
            "goodput": self.clock.goodput(),
        }
