"""Pretraining: masked tokens and next sentence on prepared datasets."""

import contextlib
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import PyTree

from bert_jax import workdir as wd
from bert_jax.arrays import PretrainBatch
from bert_jax.config import ModelConfig, PretrainConfig
from bert_jax.data import dataset, pipeline
from bert_jax.errors import InputError
from bert_jax.fields import Values, build
from bert_jax.model.bert import PretrainModel
from bert_jax.model.flops import training_flops
from bert_jax.tasks import plots
from bert_jax.tasks.heldout import HeldOut, HeldOutPoints, StuckRemark
from bert_jax.tasks.phases import Phase, check_position, open_phases, position, rate_of
from bert_jax.tasks.saved_model import SavedModel
from bert_jax.tasks.start import find_pretraining_start, load_modules
from bert_jax.tasks.vocabulary import check_same_vocabulary
from bert_jax.training.checkpoint import BEST_METRIC, Checkpoints, Restored, has_checkpoint
from bert_jax.training.clock import Clock
from bert_jax.training.distributed import agreement, is_main
from bert_jax.training.hardware import total_peak_flops
from bert_jax.training.interruption import Interruption
from bert_jax.training.logging import RunLog, read_metrics
from bert_jax.training.loop import Limits, Survival, stopped_by_signal, train
from bert_jax.training.losses import accuracy, cross_entropy
from bert_jax.training.metrics import TOKENS, Mean
from bert_jax.training.optimizer import make_optimizer
from bert_jax.training.profiling import Trace
from bert_jax.training.report import Report, StepCost
from bert_jax.training.sharding import batch_placer, check_batch, make_mesh, replicated
from bert_jax.training.state import TrainState, init_state, state_shapes
from bert_jax.training.step import Objective, make_train_step

# Metric to what the progress bar calls it.
SHOWN = {
    "mlm_loss": "loss",
    "mlm_accuracy": "masked",
    "next_accuracy": "nsp",
    "tokens_per_second": "tok/s",
}

# Fields that a continued run may have otherwise: where the data lies (its content is
# checked), on what and how it is computed, which changes rounding (and with the microbatches,
# or where kernels draw it, the dropout), and when something is written or the run is given up.
MAY_CHANGE = (
    *("data", "then.data"),
    *("mesh.data", "mesh.fsdp", "mesh.tensor", "microbatches", "then.microbatches"),
    *("model.attention", "model.remat", "model.scan_layers"),
    *("keep", "log_every", "eval_every", "eval_batches", "save_every"),
    *("max_skipped", "profile_start", "profile_steps"),
)


def make_objective(model: PretrainModel) -> Objective:
    """MLM cross-entropy over masked tokens plus NSP cross-entropy over instances."""

    def weights(batch: PretrainBatch) -> dict[str, Any]:
        return {"mlm_loss": batch.mask_weights.sum(), "next_loss": batch.next_weights.sum()}

    def losses(params: PyTree, batch: PretrainBatch, key: Any):
        mlm_logits, next_logits = model.apply(
            {"params": params},
            batch.tokens,
            batch.mask_positions,
            batch.cls_positions,
            deterministic=key is None,
            rngs=None if key is None else {"dropout": key},
        )
        mlm = (mlm_logits, batch.mask_labels, batch.mask_weights)
        following = (next_logits, batch.next_labels, batch.next_weights)
        tokens = batch.tokens.is_token.sum().astype(jnp.float32)
        with jax.named_scope("mlm"):  # a trace tells its time from the rest
            mlm_loss, mlm_accuracy = cross_entropy(*mlm), accuracy(*mlm)
        return (
            {"mlm_loss": mlm_loss, "next_loss": cross_entropy(*following)},
            {
                "mlm_accuracy": mlm_accuracy,
                "next_accuracy": accuracy(*following),
                TOKENS: Mean(tokens, jnp.ones(())),
            },
        )

    return Objective(weights, losses)


def init_params(config: ModelConfig, key: jax.Array) -> PyTree:
    """Fresh parameters of the pretraining model."""
    smallest = pipeline.example_batch(rows=1, length=8, max_instances=1, max_predictions=1)
    batch = jax.tree.map(jnp.asarray, smallest)
    variables = PretrainModel(config, mesh=None).init(
        key, batch.tokens, batch.mask_positions, batch.cls_positions, deterministic=True
    )
    return variables["params"]


def run_state_shapes(config: PretrainConfig, mesh: Mesh) -> TrainState:
    """The state of a run as ShapeDtypeStructs with their shardings."""
    return state_shapes(
        lambda key: init_params(config.model, key),
        make_optimizer(config.optimizer),
        prng=config.prng,
        mesh=mesh,
    )


def make_step(
    config: PretrainConfig, mesh: Mesh, *, microbatches: int
) -> Callable[[TrainState, PretrainBatch], tuple[TrainState, dict[str, Mean]]]:
    """The train step of a phase; the vocabulary's size is in the config by now."""
    return make_train_step(
        make_objective(PretrainModel(config.model, mesh)),
        make_optimizer(config.optimizer),
        rate_of(config),
        mesh=mesh,
        microbatches=microbatches,
    )


def run(config: Values, workdir: str | Path) -> dict[str, Any]:
    """Pretrains (fields: PretrainConfig) and returns the last held-out metrics.

    A workdir with checkpoints is continued from the newest one, bit for bit; a finished
    one returns what it reached. Raises Interrupted after a SIGTERM, with the state saved.
    """
    with contextlib.ExitStack() as stack:
        with agreement():
            config = build(PretrainConfig, config)
        config, begun_from = find_pretraining_start(config, workdir)
        with agreement():
            config, phases = open_phases(config, begun_from)
            mesh = make_mesh(config.mesh)
            for phase in phases:
                check_batch(mesh, phase.batch_size, phase.microbatches)
        for is_first in (True, False):
            with agreement():
                if is_first == is_main():
                    directory = stack.enter_context(wd.locked(workdir, is_first=is_first))
                    is_begun = has_checkpoint(directory)
                    wd.check_config(directory, config, is_begun=is_begun, may_change=MAY_CHANGE)
        return _run(config, phases, mesh, directory, begun_from)


def _run(
    config: PretrainConfig,
    phases: list[Phase],
    mesh: Mesh,
    directory: Path,
    begun_from: SavedModel | None,
) -> dict[str, Any]:
    with Checkpoints(directory, keep=config.keep, best_metric=BEST_METRIC) as checkpoints:
        restored = checkpoints.restore_newest(
            run_state_shapes(config, mesh),
            lambda step, run: check_position(run["position"], phases, step),
        )
        if is_main():  # only now, so that a refused run has changed nothing
            wd.write_config(directory, config)
            with wd.writing(directory):
                phases[0].data.tokenizer.save(directory / wd.TOKENIZER)
        if not (restored and restored.run["is_over"]):
            start = restored.step if restored else 0
            total = phases[-1].last
            with RunLog(directory, step=start, total_steps=total, title="pretrain") as log:
                training = _Training(config, phases, mesh, directory, log, checkpoints)
                training.go(restored, begun_from)
    with agreement():  # after which the log is whole for all of them
        if is_main():
            plots.draw_curves(directory)
    points = read_metrics(directory)
    return next((p for p in reversed(points) if p["split"] == dataset.HELDOUT), points[-1])


class _Training:
    """What the phases of a run share."""

    def __init__(
        self,
        config: PretrainConfig,
        phases: list[Phase],
        mesh: Mesh,
        directory: Path,
        log: RunLog,
        checkpoints: Checkpoints,
    ):
        self._config = config
        self._phases = phases
        self._mesh = mesh
        self._directory = directory
        self._log = log
        self._checkpoints = checkpoints
        self._objective = make_objective(PretrainModel(config.model, mesh))
        # Of the model that the run began from, where it was and its step.
        self._begun_from: dict[str, Any] | None = None

    def go(self, restored: Restored | None, begun_from: SavedModel | None) -> None:
        """Trains from what was restored, or from another model, or from nothing."""
        record = restored.run if restored else {}
        self._begun_from = record.get("begun_from")
        first_start = wd.first_start(self._directory) if is_main() else time.time()
        clock = Clock(first_start, record.get("clock"))
        state = restored.state if restored else self._first_state(begun_from)
        start = int(state.step)
        config = self._config
        trace = Trace(self._directory, start=config.profile_start, steps=config.profile_steps)
        with Interruption() as interruption, trace:
            for phase in self._phases:
                if phase.last <= start:
                    continue
                report = self._report(phase, clock, record)
                state, is_over = self._phase(phase, state, report, interruption, trace)
                if is_over:
                    break
                if interruption.is_noted and phase is not self._phases[-1]:
                    raise stopped_by_signal(phase.last)
                record = report.record()

    def _first_state(self, begun_from: SavedModel | None) -> TrainState:
        config = self._config
        state = init_state(
            lambda key: init_params(config.model, key),
            make_optimizer(config.optimizer),
            seed=config.seed,
            prng=config.prng,
            mesh=self._mesh,
        )
        if begun_from is None:
            return state
        self._begun_from = {"directory": str(begun_from.directory), "step": begun_from.step}
        names = tuple(state.params)
        params = load_modules(begun_from, state.params, names, self._log.say)
        return state._replace(params=params)

    def _phase(
        self,
        phase: Phase,
        state: TrainState,
        report: Report,
        interruption: Interruption,
        trace: Trace,
    ) -> tuple[TrainState, bool]:
        config = self._config
        heldout = HeldOutPoints(phase, self._objective, self._mesh, config, self._log)

        def save(state: TrainState, step: int, is_over: bool) -> None:
            record = {
                "position": position(self._phases, step),
                "config": dataclasses.asdict(config),
                "length": phase.data.length,
                "tokenizer": wd.read_files(phase.data.directory / wd.TOKENIZER),
                "is_over": is_over or step == self._phases[-1].last,
                "begun_from": self._begun_from,
                **report.record(),
            }
            self._checkpoints.save(state, record, metrics=heldout.best_metric(step))

        first = int(state.step) - phase.first
        batches = pipeline.iterate_from(phase.training_batches(), first)
        return train(
            state,
            make_step(config, self._mesh, microbatches=phase.microbatches),
            map(batch_placer(self._mesh), batches),
            limits=Limits(phase.last, 60 * config.budget_minutes),
            log_every=config.log_every,
            report=report,
            survival=Survival(
                phase.every(config.save_every), save, self._checkpoints.wait, interruption
            ),
            trace=trace,
            evaluations=heldout.evaluations(),
        )

    def _report(self, phase: Phase, clock: Clock, record: dict[str, Any]) -> Report:
        return Report(
            self._log,
            clock,
            _step_cost(self._config.model, phase),
            peak_flops=total_peak_flops(self._mesh),
            shown=SHOWN,
            max_skipped=self._config.max_skipped,
            name_batch=phase.batch_name,
            remark=StuckRemark(phase.data),
            record=record,
        )


def evaluate_heldout(config: PretrainConfig, found: SavedModel, data: str = "") -> dict[str, float]:
    """Every held-out metric of a finished run; the masks are those of its training log.

    `data` names another dataset than that of its last phase. Raises InputError when that
    was prepared with another vocabulary.
    """
    if data and config.then:
        last = dataclasses.replace(config.then[-1], data=data)
        config = dataclasses.replace(config, then=(*config.then[:-1], last))
    elif data:
        config = dataclasses.replace(config, data=data)
    config, phases = open_phases(config, None)
    phase = phases[-1]
    check_same_vocabulary(
        phase.data.directory,
        phase.data.tokenizer,
        found.tokenizer,
        whose=f"{found.directory} was trained with",
        mend="name the dataset of that run",
    )
    if not phase.data.has_heldout():
        raise InputError(
            f"{phase.data.directory} has no held-out rows: prepare it with"
            " config.heldout_fraction above 0."
        )
    mesh = make_mesh(config.mesh)
    check_batch(mesh, phase.batch_size)
    params = found.modules(
        jax.eval_shape(lambda key: init_params(found.model, key), jax.random.key(0))
    )
    objective = make_objective(PretrainModel(found.model, mesh))
    heldout = HeldOut(phase, objective, mesh, batches=0)
    return heldout.measure(jax.device_put(params, replicated(mesh)))


def _step_cost(model: ModelConfig, phase: Phase) -> Callable[[PyTree], StepCost]:
    """All batches of a phase are of one shape."""
    row = training_flops(
        model,
        length=phase.data.length,
        predictions=phase.masking.max_predictions,
        instances=phase.data.manifest["max_instances"],
    )
    cost = StepCost(phase.batch_size * phase.data.length, phase.batch_size * row)
    return lambda batch: cost
