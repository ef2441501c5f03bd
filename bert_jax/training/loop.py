"""The loop: dispatch a step, then read what the one before it measured."""

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from bert_jax.errors import Diverged, Interrupted
from bert_jax.training.clock import COMPILING, EVALUATING, SAVING, STEPPING, WAITING
from bert_jax.training.interruption import Interruption
from bert_jax.training.metrics import Mean, add, divide
from bert_jax.training.profiling import Trace
from bert_jax.training.report import Report
from bert_jax.training.state import TrainState


class At(NamedTuple):
    """Something to do after some of the steps, and after the last.

    `action(state, step)` returns True to end the run.
    """

    steps: Container[int]
    action: Callable[[TrainState, int], bool | None]


class Limits(NamedTuple):
    """When a training ends: after `steps`, counted from the run's first, or, above 0, after
    `seconds` of its clock, which is read at every log point."""

    steps: int
    seconds: float = 0.0


class Survival(NamedTuple):
    """What lets a run go on after whatever happens to it: its saves and its signals."""

    steps: Container[int]  # after these, and after the last, the state is saved
    save: Callable[[TrainState, int, bool], None]  # the last is whether the run is over
    wait: Callable[[], None]  # until the last save is on the disk
    interruption: Interruption


def train(
    state: TrainState,
    train_step: Callable[[TrainState, PyTree], tuple[TrainState, dict[str, Mean]]],
    batches: Iterator[PyTree],
    *,
    limits: Limits,
    log_every: int,
    report: Report,
    survival: Survival,
    trace: Trace | None = None,
    evaluations: Sequence[At] = (),
) -> tuple[TrainState, bool]:
    """Runs from `state.step` to the limit; returns the state, and whether the run is over
    before `limits.steps`, by the clock or by an evaluation that said so. A run whose time is
    up when it begins does one step more, so that it has an end to log and to save.

    Raises Interrupted after a SIGTERM, and Diverged after too many skipped updates in a
    row, both with the state saved.
    """
    clock = report.clock
    step = int(state.step)
    state, is_up = _read_clock(state, limits, report)
    pending: dict[str, Mean] | None = None
    compiled_for: set[tuple[tuple[int, ...], ...]] = set()
    is_over = False
    with clock.spend(STEPPING):
        while step < limits.steps and not is_over:
            with clock.spend(WAITING):
                batch = next(batches)
            report.reads(batch)
            shapes = tuple(leaf.shape for leaf in jax.tree.leaves(batch))
            with nullcontext() if shapes in compiled_for else clock.spend(COMPILING):
                state, measured = train_step(state, batch)
            if pending is not None:
                report.add(step, pending)
            step, pending = step + 1, measured
            compiled_for.add(shapes)
            if trace:
                trace.after(step, state)
            is_interrupted = survival.interruption.is_due(step)
            is_logged = step % log_every == 0
            if is_logged:
                state, is_up = _read_clock(state, limits, report)
            is_over = is_up or step == limits.steps
            due = [at.action for at in evaluations if is_over or step in at.steps]
            is_stopping = is_interrupted or report.is_hopeless
            is_saved = is_over or is_stopping or step in survival.steps
            if due or is_logged or is_saved:
                report.add(step, pending)
                pending = None
            if due or is_logged or is_over:
                report.point(step, state.params)
            else:
                report.progress(step)
            with clock.spend(EVALUATING):
                for action in due:
                    is_over |= bool(action(state, step))
            if is_saved or is_over:
                with clock.spend(SAVING):
                    survival.save(state, step, is_over and step < limits.steps)
            if (is_stopping and not is_over) or report.is_hopeless:
                survival.wait()  # what is called saved must be
                raise stopped_by_signal(step) if is_interrupted else _hopeless(step, report)
        with clock.spend(SAVING):
            survival.wait()  # while signals are watched: one that comes now is too late to matter
    return state, step < limits.steps


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


def _read_clock(state: TrainState, limits: Limits, report: Report) -> tuple[TrainState, bool]:
    """The state with the share of the time used, and whether the time is up."""
    if not limits.seconds:
        return state, False
    share = np.float32(report.clock.elapsed() / limits.seconds)
    if jax.process_count() > 1:  # every host has a clock of its own, and one must count
        share = multihost_utils.broadcast_one_to_all(share)
    used = jax.device_put(np.minimum(share, np.float32(1)), state.budget_used.sharding)
    return state._replace(budget_used=used), bool(share >= 1)


def stopped_by_signal(step: int) -> Interrupted:
    """What a run raises that was told to stop and has saved `step`."""
    return Interrupted(
        f"stopped by SIGTERM with step {step} saved: run the same command again to go on."
    )


def _hopeless(step: int, report: Report) -> Diverged:
    return Diverged(
        f"the updates of {report.skipped_in_a_row} steps in a row were skipped, since their loss"
        f" or gradient is not finite; step {step} is saved with the parameters from before: lower"
        " config.optimizer.learning_rate in a new --workdir, or look at the batches named above."
    )
