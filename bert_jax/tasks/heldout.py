"""Held-out rows with fixed masks: what a pretraining has learnt, and what it is compared with."""

import dataclasses
import math
from collections.abc import Iterable

import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from bert_jax.arrays import PretrainBatch
from bert_jax.config import PretrainConfig
from bert_jax.data import dataset
from bert_jax.tasks.phases import Data, Phase
from bert_jax.training.checkpoint import BEST_METRIC, BEST_SINCE
from bert_jax.training.logging import RunLog
from bert_jax.training.loop import At, evaluate
from bert_jax.training.sharding import batch_placer
from bert_jax.training.state import TrainState
from bert_jax.training.step import Objective, make_eval_step

# A masked loss within this many nats of the pieces' entropy has learnt their frequencies only.
STUCK_NATS = 0.1
# Steps after which that is remarkable, for runs with a shorter warm-up.
STUCK_STEPS = 1000
# A rate rises where it grows by more than this share: means of one rate differ by rounding.
RATE_NOISE = 1e-4


class HeldOut:
    """The metrics of a phase's held-out rows, `batches` of them or all where it is 0."""

    def __init__(self, phase: Phase, objective: Objective, mesh: Mesh, batches: int):
        self._batches = phase.heldout_batches(batches)
        self._place = batch_placer(mesh)
        self._eval_step = make_eval_step(objective)
        # Of the rows of all hosts, each of which could have nothing but padding.
        everyones = dataclasses.replace(phase, host=0, hosts=1).heldout_batches(batches)
        self._unigram_loss = unigram_loss(phase.data, iter(everyones))

    def measure(self, params: PyTree) -> dict[str, float]:
        """Masked cross-entropy and accuracy, next-sentence cross-entropy and accuracy, the
        cross-entropy of the pieces' frequencies on the same tokens, and pseudo-perplexity.

        Pseudo-perplexity is exp of the masked cross-entropy, of all masked tokens at once;
        Salazar et al. (arXiv:1910.14659) mask one token at a time, which gives less.
        """
        metrics = evaluate(self._eval_step, params, map(self._place, self._batches))
        metrics["unigram_loss"] = self._unigram_loss
        metrics["pseudo_perplexity"] = math.exp(min(metrics["mlm_loss"], 700.0))
        return metrics


class HeldOutPoints:
    """Evaluation of a phase as it goes, where it has held-out rows."""

    def __init__(
        self,
        phase: Phase,
        objective: Objective,
        mesh: Mesh,
        config: PretrainConfig,
        log: RunLog,
    ):
        self._steps = phase.every(config.eval_every)
        self._first = phase.first
        self._log = log
        self._newest: tuple[int, float] | None = None
        self._heldout = None
        if phase.data.has_heldout():
            self._heldout = HeldOut(phase, objective, mesh, config.eval_batches)
        else:
            log.say(
                f"{phase.data.directory} has no held-out rows: nothing is evaluated as it goes."
            )

    def evaluations(self) -> list[At]:
        """What the loop is to do, and when."""
        return [At(self._steps, self._measure)] if self._heldout else []

    def best_metric(self, step: int) -> dict[str, float]:
        """For the checkpoint of `step`: empty where nothing was measured at that step."""
        if self._newest is None or self._newest[0] != step:
            return {}
        # Losses on the rows of different phases cannot be compared.
        return {BEST_METRIC: -self._newest[1], BEST_SINCE: self._first}

    def _measure(self, state: TrainState, step: int) -> None:
        metrics = self._heldout.measure(state.params)
        self._log.write(step, dataset.HELDOUT, metrics)
        self._newest = (step, metrics["mlm_loss"])


class StuckRemark:
    """Says, as early as it can be told, that a run learns nothing but frequencies.

    That is after twice its warm-up, which is what went before the rate last rose: the rate
    may go by the step or by the clock.
    """

    def __init__(self, data: Data):
        self._entropy = unigram_entropy(data)
        self._next = STUCK_STEPS
        self._rate = math.inf
        self._has_learnt = False

    def __call__(self, step: int, metrics: dict[str, float]) -> str | None:
        loss, rate = metrics["mlm_loss"], metrics["learning_rate"]
        if not math.isfinite(loss):  # every update of the window was skipped
            return None
        if rate > self._rate * (1 + RATE_NOISE):
            self._next = max(2 * step, STUCK_STEPS)
        self._rate = rate
        self._has_learnt |= loss < self._entropy - STUCK_NATS
        if self._has_learnt or step < self._next:
            return None
        self._next = 2 * step
        return (
            f"step {step}: the masked loss {loss:.2f} is still that of the pieces' frequencies"
            f" ({self._entropy:.2f}), so the run has learnt nothing else yet. If this stays, lower"
            " config.optimizer.learning_rate or raise config.optimizer.warmup_fraction, and look"
            " at the rows with python -m bert_jax.inspect."
        )


def unigram_loss(data: Data, batches: Iterable[PretrainBatch]) -> float:
    """Cross-entropy in nats of the masked tokens under the training pieces' frequencies.

    What a model reaches that has learnt how frequent each piece is and nothing else.
    """
    cost = _piece_cost(data)
    total = weight = 0.0
    for batch in batches:
        total += float((cost[batch.mask_labels] * batch.mask_weights).sum())
        weight += float(batch.mask_weights.sum())
    return total / weight


def unigram_entropy(data: Data) -> float:
    """The same in nats of an average training token."""
    counts = dataset.read_token_counts(data.directory)
    return float((counts * _piece_cost(data)).sum() / counts.sum())


def _piece_cost(data: Data) -> np.ndarray:
    # One is added to every count, so that a piece never seen costs a finite amount.
    counts = dataset.read_token_counts(data.directory) + 1
    return np.log(counts.sum()) - np.log(counts)
