"""One fine-tuning, of whatever task: from the newest checkpoint or the start to the best."""

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import PyTree

from bert_jax import workdir as wd
from bert_jax.data.epochs import batches_per_epoch
from bert_jax.data.shapes import Costs, Shape, Shapes
from bert_jax.errors import InputError, listed
from bert_jax.finetune_config import FinetuneConfig
from bert_jax.model.flops import training_flops
from bert_jax.tasks.batches import Batches, choose_shapes
from bert_jax.tasks.forward import Forward
from bert_jax.tasks.layer_rates import moves
from bert_jax.tasks.splits import (
    TEST,
    TRAIN,
    VALIDATION,
    labelled_rows,
    read_splits,
    untrained_labels,
)
from bert_jax.tasks.start import Start, load_modules
from bert_jax.tasks.task import Encoded, Task
from bert_jax.tasks.validations import Validations
from bert_jax.training.checkpoint import BEST_METRIC, Checkpoints, Restored
from bert_jax.training.clock import Clock
from bert_jax.training.hardware import compilation_flops, total_peak_flops
from bert_jax.training.interruption import Interruption
from bert_jax.training.logging import RunLog, check_log, read_metrics
from bert_jax.training.loop import At, Limits, Survival, train
from bert_jax.training.metrics import TOKENS, Mean
from bert_jax.training.optimizer import make_optimizer
from bert_jax.training.report import Report, StepCost
from bert_jax.training.schedules import make_schedule
from bert_jax.training.sharding import batch_placer, row_shards
from bert_jax.training.state import TrainState, init_state, state_shapes
from bert_jax.training.step import Objective, by_step, make_train_step

# Metric to what the progress bar calls it.
SHOWN = {"loss": "loss", "accuracy": "accuracy", "tokens_per_second": "tok/s"}


@dataclasses.dataclass(frozen=True)
class Data:
    """The rows to train on and to validate with, as read and as the model reads them."""

    task: Task  # with the labels that there are
    rows: dict[str, list[Any]]
    examples: dict[str, list[Any]]
    test: list[Any]  # rows that no training reads; of named ones none where there is one seed

    @classmethod
    def open(cls, kind: type[Task], config: FinetuneConfig, start: Start) -> "Data":
        """Raises InputError where the rows cannot be used."""
        splits = read_splits(kind, config.data, is_tested=config.seeds > 1)
        rows = {split: splits[split] for split in (TRAIN, VALIDATION)}
        labels = kind.find_labels(labelled_rows(splits, config.data), config.data)
        task = kind(labels, start.tokenizer, config.max_length, config.window_overlap)
        examples = {}
        for split in rows:
            encoded = task.encode(rows[split])
            print(f"{split}: {_size(rows[split], encoded)} to {config.max_length} tokens")
            examples[split] = encoded.examples
        if untrained := untrained_labels(kind, splits, config.data):
            print(
                f"warning: in no training row, and so never learnt: {listed(untrained)}; the hash"
                " has put all rows of these labels into the other parts, so give it more of them."
            )
        if config.class_weights != "none":
            examples[TRAIN] = task.balanced(examples[TRAIN])
        return cls(task, rows, examples, splits[TEST])


def _size(rows: list[Any], encoded: Encoded) -> str:
    more = len(encoded.examples) - len(rows)
    windows = f" in {len(encoded.examples):,} windows" if more else ""
    return f"{len(rows):,} texts{windows}, {len(encoded.cut):,} cut"


class Program(NamedTuple):
    """What is compiled, once for all seeds."""

    forward: Forward
    optimizer: optax.GradientTransformation
    train_step: Callable[[TrainState, PyTree], tuple[TrainState, dict[str, Mean]]]
    mesh: Mesh
    shapes: Shapes
    steps_per_epoch: int
    total_steps: int


def make_program(config: FinetuneConfig, data: Data, mesh: Mesh) -> Program:
    """The model, the optimizer and the step of a fine-tuning."""
    forward = Forward(data.task, config.model, mesh)
    optimizer = make_optimizer(config.optimizer, moves(config, config.model.layers))
    steps_per_epoch = batches_per_epoch(len(data.examples[TRAIN]), config.batch_size)
    total_steps = steps_per_epoch * config.epochs
    rate_of = by_step(make_schedule(config.optimizer, total_steps=total_steps))
    train_step = make_train_step(make_objective(forward), optimizer, rate_of, mesh=mesh)
    shapes = choose_shapes(
        data.task,
        data.examples[TRAIN],
        make_costs(forward, mesh),
        batch_size=config.batch_size,
        steps=total_steps,
        multiple=row_shards(mesh),
    )
    return Program(forward, optimizer, train_step, mesh, shapes, steps_per_epoch, total_steps)


def make_costs(forward: Forward, mesh: Mesh) -> Costs:
    """Of a step and of its compilation, in operations of these devices."""
    # What is read costs as much in one shape as in the next.
    of_step = functools.partial(step_flops, forward, texts=0)
    return Costs(of_step, compilation_flops(forward.config.layers, mesh))


def step_flops(forward: Forward, shape: Shape, *, texts: int) -> float:
    """Operations of a step whose batch of so many texts has that shape."""
    reads = getattr(forward.model, "reads", None)
    read = None if reads is None else reads * texts / shape.rows
    row = training_flops(forward.config, length=shape.length, predictions=0, read=read)
    return shape.rows * row


def make_objective(forward: Forward) -> Objective:
    """The losses of the task."""
    task = forward.task

    def losses(params: PyTree, batch: Any, key: Any):
        outputs = forward.model.apply(
            {"params": params},
            batch.tokens,
            deterministic=key is None,
            rngs=None if key is None else {"dropout": key},
        )
        found, extra = task.losses(outputs, batch)
        tokens = batch.tokens.is_token.sum().astype(jnp.float32)
        return found, extra | {TOKENS: Mean(tokens, jnp.ones(()))}

    return Objective(task.weights, losses)


class Tuning:
    """One run: its data, its checkpoints and its log."""

    def __init__(
        self, config: FinetuneConfig, start: Start, data: Data, program: Program, workdir: Path
    ):
        self._config = config
        self._start = start
        self._data = data
        self._program = program
        self._workdir = workdir
        self._inputs = _inputs(data, start)
        self._batches = Batches(
            data.task,
            data.examples[TRAIN],
            program.shapes,
            batch_size=config.batch_size,
            seed=config.seed,
        )

    def go(self) -> dict[str, Any]:
        """Trains from the newest checkpoint, or from the start; returns the best validation."""
        config, total_steps = self._config, self._program.total_steps
        # Two, so that there is one before the newest.
        with Checkpoints(self._workdir, keep=2, best_metric=BEST_METRIC) as checkpoints:
            restored = checkpoints.restore_newest(
                state_shapes(
                    self._program.forward.init_params,
                    self._program.optimizer,
                    prng=config.prng,
                    mesh=self._program.mesh,
                ),
                lambda _, run: self._check_inputs(run),
            )
            if restored:
                check_log(self._workdir)  # before RunLog begins a new one, without the validations
            # Only now, so that a refused run has changed nothing.
            wd.write_config(self._workdir, config)
            with wd.writing(self._workdir):
                self._start.tokenizer.save(self._workdir / wd.TOKENIZER)
            first = restored.step if restored else 0
            with RunLog(
                self._workdir, step=first, total_steps=total_steps, title="finetune"
            ) as log:
                validations = Validations(
                    read_metrics(self._workdir),
                    config.metric,
                    higher=self._data.task.METRICS[config.metric],
                    patience=config.patience,
                )
                if first < total_steps and not validations.is_over():
                    self._train(restored, log, validations, checkpoints)
        return validations.best()

    def _check_inputs(self, run: dict[str, Any]) -> None:
        """Raises InputError where the record of a checkpoint is not of this run."""
        if run["inputs"] != self._inputs:
            raise InputError(
                f"{self._workdir} was begun with other rows, labels or another tokenizer, or from"
                " another config.init_from checkpoint: use a new --workdir, or delete this one."
            )

    def _train(
        self,
        restored: Restored | None,
        log: RunLog,
        validations: Validations,
        checkpoints: Checkpoints,
    ) -> None:
        config, program = self._config, self._program
        report = self._report(log, restored.run if restored else {})
        run_record = {
            "config": dataclasses.asdict(config),
            "labels": self._data.task.labels,
            "length": config.max_length,
            "inputs": self._inputs,
            "tokenizer": wd.read_files(self._workdir / wd.TOKENIZER),
        }

        def validate(state: TrainState, step: int) -> bool:
            metrics = self._validate(state.params)
            validations.add(log.write(step, VALIDATION, metrics))
            log.say(f"step {step}: " + ", ".join(f"{k} {v:.4f}" for k, v in metrics.items()))
            return validations.is_over()

        def save(state: TrainState, step: int, is_over: bool) -> None:
            del is_over  # the validations say it
            record = run_record | {"step": step} | report.record()
            checkpoints.save(state, record, metrics=validations.best_metric(step))

        state = restored.state if restored else self._first_state()
        steps = validation_steps(config, program.steps_per_epoch)
        with Interruption() as interruption:
            train(
                state,
                program.train_step,
                map(batch_placer(program.mesh), self._batches.from_step(int(state.step))),
                limits=Limits(program.total_steps),
                log_every=config.log_every,
                report=report,
                survival=Survival(steps, save, checkpoints.wait, interruption),
                evaluations=[At(steps, validate)],
            )

    def _first_state(self) -> TrainState:
        """A fresh state, with the pretrained encoder where there is one; and its head, where that
        is of the same task and the same labels, in the same order."""
        config, program = self._config, self._program
        state = init_state(
            program.forward.init_params,
            program.optimizer,
            seed=config.seed,
            prng=config.prng,
            mesh=program.mesh,
        )
        found = self._start.pretrained
        if found is None:
            return state
        labels = self._data.task.labels
        # One label, of a number or a choice, says nothing of what it means.
        has_head = (found.task, found.labels) == (config.task, labels) and len(labels) > 1
        names = tuple(name for name in state.params if has_head or name in ("encoder", "pooler"))
        params = load_modules(found, state.params, names, print)
        return state._replace(params=params)

    def _validate(self, params: PyTree) -> dict[str, float]:
        data, rows = self._data, self._data.rows[VALIDATION]
        answers = self._program.forward.evaluate(params, rows, data.examples[VALIDATION])
        return data.task.score(rows, answers, self._config.data)

    def _report(self, log: RunLog, saved: dict[str, Any]) -> Report:
        return Report(
            log,
            Clock(wd.first_start(self._workdir), saved.get("clock")),
            self._step_cost,
            peak_flops=total_peak_flops(self._program.mesh),
            shown=SHOWN,
            max_skipped=self._config.max_skipped,
            name_batch=self._batches.name,
            record=saved,
        )

    def _step_cost(self, batch: PyTree) -> StepCost:
        shape = Shape(*batch.tokens.rows.ids.shape)
        flops = step_flops(self._program.forward, shape, texts=batch.tokens.texts)
        return StepCost(shape.rows * shape.length, flops)


def validation_steps(config: FinetuneConfig, steps_per_epoch: int) -> set[int]:
    """Evenly over every epoch, the last at its end; after every step where there are fewer."""
    parts = config.evals_per_epoch
    return {round(n * steps_per_epoch / parts) for n in range(1, config.epochs * parts + 1)}


def _inputs(data: Data, start: Start) -> str:
    """A hash of what a continued run must share: the rows, the labels, which rows of the test
    part tell too, the tokenizer and the checkpoint begun from."""
    rows = [row._replace(where="") for row in itertools.chain(*data.rows.values())]
    begun = start.pretrained and [start.pretrained.step, start.pretrained.run]
    shared = [rows, data.task.labels, start.tokenizer.fingerprint, begun]
    return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()
