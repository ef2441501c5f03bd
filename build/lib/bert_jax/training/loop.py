"""The loop: dispatch a step, then read what the one before it measured."""

import time
from collections.abc import Callable, Container, Iterator, Sequence
from typing import NamedTuple

import jax
from jaxtyping import PyTree

from bert_jax.training.logging import RunLog
from bert_jax.training.metrics import Mean, add, divide
from bert_jax.training.state import TrainState

TOKENS = "tokens"  # the metric that counts real tokens, for tokens a second


class At(NamedTuple):
    """Something to do after some of the steps, and after the last.

    `action(state, step)` returns True to end the run.
    """

    steps: Container[int]
    action: Callable[[TrainState, int], bool | None]


def train(
    state: TrainState,
    train_step: Callable[[TrainState, PyTree], tuple[TrainState, dict[str, Mean]]],
    batches: Iterator[PyTree],
    *,
    total_steps: int,
    log_every: int,
    log: RunLog,
    shown: dict[str, str],
    actions: Sequence[At] = (),
) -> TrainState:
    """Runs from `state.step` to `total_steps`, or until an action says stop.

    Metrics are logged as the mean over the steps since the last point; `shown` maps
    their names to what the progress bar calls them. A point is logged before every
    action too, so that a run resumed from a checkpoint logs the same windows.
    """
    window = _Window()
    step = int(state.step)
    pending: dict[str, Mean] | None = None
    while step < total_steps:
        started = time.monotonic()
        batch = next(batches)
        waited = time.monotonic() - started
        state, measured = train_step(state, batch)
        window.wait(waited)
        if pending is not None:
            window.add(pending)
        pending = measured
        step += 1
        due = [a for a in actions if step in a.steps or step == total_steps]
        if due or step % log_every == 0 or step == total_steps:
            window.add(pending)
            pending = None
            metrics = window.close()
            log.write(step, "train", metrics)
            log.progress(step, {short: metrics[name] for name, short in shown.items()})
        else:
            log.progress(step, {})
        if due:
            stop = [action.action(state, step) for action in due]
            window = _Window()
            if any(stop):
                break
    return state


def evaluate(
    eval_step: Callable[[PyTree, PyTree], dict[str, Mean]],
    params: PyTree,
    batches: Iterator[PyTree],
) -> dict[str, float]:
    """The metrics over all batches together."""
    total: dict[str, Mean] = {}
    for batch in batches:
        means = jax.device_get(eval_step(params, batch))
        total = add(total, means)
    return divide(total)


class _Window:
    """Metrics and time since the last logged point."""

    def __init__(self):
        self._total: dict[str, Mean] = {}
        self._steps = 0
        self._waited = 0.0
        self._started = time.monotonic()

    def wait(self, seconds: float) -> None:
        self._waited += seconds

    def add(self, means: dict[str, Mean]) -> None:
        self._total = add(self._total, jax.device_get(means))
        self._steps += 1

    def close(self) -> dict[str, float]:
        """The means since the start of the window; opens the next one."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        metrics = divide(self._total)
        metrics["step_ms"] = 1000 * seconds / self._steps
        metrics["data_wait_share"] = self._waited / seconds
        if TOKENS in self._total:
            metrics["tokens_per_second"] = float(self._total[TOKENS].total) / seconds
        self.__init__()
        return metrics
