"""Fine-tuning a classifier of single texts: sentiment, topics."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from bert_jax import workdir as wd
from bert_jax.arrays import ClassifyBatch
from bert_jax.config import FinetuneConfig, LabelledDataConfig
from bert_jax.data.labelled import Example, encode_texts, epoch_batches, label_ids
from bert_jax.errors import InputError
from bert_jax.fields import Values, build
from bert_jax.model.bert import ClassifyModel
from bert_jax.model.flops import training_flops
from bert_jax.tasks import plots
from bert_jax.tasks.classifier import Classifier, score
from bert_jax.tasks.start import Start, find_start, load_modules
from bert_jax.text.labelled import LabelledText, clean_split, read_labelled
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.training.checkpoint import BEST_METRIC, Checkpoints, Restored, has_checkpoint
from bert_jax.training.clock import Clock
from bert_jax.training.hardware import peak_flops
from bert_jax.training.interruption import Interruption
from bert_jax.training.logging import RunLog, read_metrics
from bert_jax.training.loop import At, Limits, Survival, train
from bert_jax.training.losses import accuracy, cross_entropy
from bert_jax.training.metrics import TOKENS, Mean
from bert_jax.training.optimizer import make_optimizer
from bert_jax.training.report import Report, StepCost
from bert_jax.training.schedules import make_schedule
from bert_jax.training.sharding import batch_placer, check_batch, make_mesh
from bert_jax.training.state import TrainState, init_state, state_shapes
from bert_jax.training.step import Objective, by_step, make_train_step

VALIDATION = "validation"
# Metric to what the progress bar calls it.
SHOWN = {"loss": "loss", "accuracy": "accuracy", "tokens_per_second": "tok/s"}
EVAL_BATCH = 64


def make_objective(model: ClassifyModel) -> Objective:
    """Mean cross-entropy of the label."""

    def losses(params: PyTree, batch: ClassifyBatch, key: Any):
        logits = model.apply(
            {"params": params},
            batch.tokens,
            deterministic=key is None,
            rngs=None if key is None else {"dropout": key},
        )
        rated = (logits, batch.labels, batch.weights)
        tokens = (batch.tokens.instances > 0).sum().astype(jnp.float32)
        extra = {"accuracy": accuracy(*rated), TOKENS: Mean(tokens, jnp.ones(()))}
        return {"loss": cross_entropy(*rated)}, extra

    return Objective(lambda batch: {"loss": batch.weights.sum()}, losses)


def read_splits(config: LabelledDataConfig) -> dict[str, list[LabelledText]]:
    """Rows of train, validation and test, as named or cut from train by text hash."""

    def read(source: str) -> list[LabelledText]:
        return read_labelled(source, text_field=config.text_field, label_field=config.label_field)

    if not config.train:
        raise InputError("config.data.train is empty: name a file, tfds:NAME or pypi:PACKAGE.")
    if not config.validation and not config.test:
        splits = clean_split(read(config.train))
    elif not config.validation:
        cut = clean_split(read(config.train))
        splits = {**cut, "train": cut["train"] + cut["test"], "test": read(config.test)}
    else:
        splits = {"train": read(config.train), VALIDATION: read(config.validation)}
        splits["test"] = read(config.test) if config.test else []
    for split in ("train", VALIDATION):
        if not splits[split]:
            raise InputError(f"the {split} split of {config.train} holds no row: give it more.")
    return splits


@dataclasses.dataclass(frozen=True)
class Data:
    """The rows to train on and to validate with, as read and as ids."""

    rows: dict[str, list[LabelledText]]
    labels: list[str]
    examples: dict[str, list[Example]]

    @classmethod
    def open(cls, config: FinetuneConfig, tokenizer: Tokenizer) -> "Data":
        """Raises InputError where there are no two labels, or one was never seen in training."""
        splits = read_splits(config.data)
        rows = {split: splits[split] for split in ("train", VALIDATION)}
        labels = sorted({row.label for row in rows["train"]})
        if len(labels) < 2:
            raise InputError(
                f"{config.data.train} has the one label {labels[0]!r}: two are needed."
            )
        examples = {
            split: _encode(rows[split], split, labels, tokenizer, config.max_length)
            for split in rows
        }
        return cls(rows, labels, examples)


class Validations:
    """The points of every validation of a run, which is best, and whether it is to go on."""

    def __init__(self, config: FinetuneConfig, logged: list[dict[str, Any]]):
        self._config = config
        self._points = [point for point in logged if point["split"] == VALIDATION]

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
        patience = self._config.patience
        return bool(values) and 0 < patience <= len(values) - 1 - values.index(max(values))

    def _value(self, point: dict[str, Any]) -> float:
        return _higher_is_better(point, self._config)


def run(config: Values, workdir: str | Path) -> dict[str, float]:
    """Fine-tunes (fields: FinetuneConfig) and returns the best validation metrics.

    Continues an interrupted run from its last evaluation; returns at once from a
    finished one.
    """
    if jax.process_count() > 1:
        raise InputError(
            f"fine-tuning runs in one process and here are {jax.process_count()}: start one."
        )
    config = build(FinetuneConfig, config)
    start = find_start(config)
    init_from = config.init_from if start.pretrained is None else str(start.pretrained.directory)
    config = dataclasses.replace(config, init_from=init_from, model=start.model)
    mesh = make_mesh(config.mesh)
    check_batch(mesh, config.batch_size)
    data = Data.open(config, start.tokenizer)
    with wd.locked(workdir) as directory:
        wd.check_config(directory, config, is_begun=has_checkpoint(directory))
        best = _Tuning(config, start, data, mesh, directory).go()
        plots.draw_curves(directory)
    return best


class _Tuning:
    """One run: its data, its checkpoints and its log."""

    def __init__(self, config: FinetuneConfig, start: Start, data: Data, mesh: Mesh, workdir: Path):
        self._config = config
        self._start = start
        self._data = data
        self._mesh = mesh
        self._workdir = workdir
        self._classifier = Classifier(config.model, len(data.labels), mesh)
        self._steps_per_epoch = -(-len(data.examples["train"]) // config.batch_size)
        self._total_steps = self._steps_per_epoch * config.epochs
        self._optimizer = make_optimizer(config.optimizer, frozen=_frozen(config))
        self._inputs = _inputs(data, start)

    def go(self) -> dict[str, Any]:
        """Trains from the newest checkpoint, or from the start; returns the best validation."""
        # Two, so that there is one before the newest.
        with Checkpoints(self._workdir, keep=2, best_metric=BEST_METRIC) as checkpoints:
            restored = checkpoints.restore_newest(
                state_shapes(
                    self._classifier.init_params,
                    self._optimizer,
                    prng=self._config.prng,
                    mesh=self._mesh,
                ),
                lambda _, run: self._check_inputs(run),
            )
            # Only now, so that a refused run has changed nothing.
            wd.write_config(self._workdir, self._config)
            with wd.writing(self._workdir):
                self._start.tokenizer.save(self._workdir / wd.TOKENIZER)
            first = restored.step if restored else 0
            with RunLog(
                self._workdir, step=first, total_steps=self._total_steps, title="finetune"
            ) as log:
                validations = Validations(self._config, read_metrics(self._workdir))
                if first < self._total_steps and not validations.is_over():
                    self._train(restored, log, validations, checkpoints)
        return validations.best()

    def _check_inputs(self, run: dict[str, Any]) -> None:
        """Raises InputError where the record of a checkpoint is not of this run."""
        if run["inputs"] != self._inputs:
            raise InputError(
                f"{self._workdir} was begun with other rows or from another config.init_from"
                " checkpoint: use a new --workdir, or delete this one."
            )

    def _train(
        self,
        restored: Restored | None,
        log: RunLog,
        validations: Validations,
        checkpoints: Checkpoints,
    ) -> None:
        config, mesh = self._config, self._mesh
        report = self._report(log, restored.run if restored else {})
        run_record = {
            "config": dataclasses.asdict(config),
            "labels": self._data.labels,
            "length": config.max_length,
            "inputs": self._inputs,
            "tokenizer": wd.read_files(self._workdir / wd.TOKENIZER),
        }

        def validate(state: TrainState, step: int) -> bool:
            metrics = _validate(self._classifier, state.params, self._data, config, self._start)
            validations.add(log.write(step, VALIDATION, metrics))
            log.say(f"step {step}: " + ", ".join(f"{k} {v:.4f}" for k, v in metrics.items()))
            return validations.is_over()

        def save(state: TrainState, step: int, is_over: bool) -> None:
            del is_over  # the validations say it
            record = run_record | {"step": step} | report.record()
            checkpoints.save(state, record, metrics=validations.best_metric(step))

        rate_of = by_step(make_schedule(config.optimizer, total_steps=self._total_steps))
        state = restored.state if restored else self._first_state()
        objective = make_objective(self._classifier.model)
        steps = _validation_steps(config, self._steps_per_epoch)
        batches = _batches_from(
            self._data, config, self._start, int(state.step), self._steps_per_epoch
        )
        with Interruption() as interruption:
            train(
                state,
                make_train_step(objective, self._optimizer, rate_of, mesh=mesh),
                map(batch_placer(mesh), batches),
                limits=Limits(self._total_steps),
                log_every=config.log_every,
                report=report,
                survival=Survival(steps, save, checkpoints.wait, interruption),
                evaluations=[At(steps, validate)],
            )

    def _first_state(self) -> TrainState:
        """A fresh state, with the pretrained encoder where there is one."""
        state = init_state(
            self._classifier.init_params,
            self._optimizer,
            seed=self._config.seed,
            prng=self._config.prng,
            mesh=self._mesh,
        )
        if self._start.pretrained is None:
            return state
        names = ("encoder", "pooler")
        params = load_modules(self._start.pretrained, state.params, names, print)
        return state._replace(params=params)

    def _report(self, log: RunLog, saved: dict[str, Any]) -> Report:
        config = self._config
        row = training_flops(config.model, length=config.max_length, predictions=0)
        peak = peak_flops(self._mesh.devices.flat[0])
        return Report(
            log,
            Clock(wd.first_start(self._workdir), saved.get("clock")),
            StepCost(
                padded_tokens=config.batch_size * config.max_length,
                flops=config.batch_size * row,
                peak_flops=None if peak is None else peak * self._mesh.devices.size,
            ),
            shown=SHOWN,
            max_skipped=config.max_skipped,
            name_batch=self._batch_name,
            record=saved,
        )

    def _batch_name(self, step: int) -> str:
        epoch, batch = divmod(step - 1, self._steps_per_epoch)
        return f"batch {batch + 1} of epoch {epoch + 1}"


def _validation_steps(config: FinetuneConfig, steps_per_epoch: int) -> set[int]:
    """Evenly over every epoch, the last at its end; after every step where there are fewer."""
    parts = config.evals_per_epoch
    return {round(n * steps_per_epoch / parts) for n in range(1, config.epochs * parts + 1)}


def _inputs(data: Data, start: Start) -> str:
    """A hash of the rows and of the checkpoint begun from: what a continued run must share."""
    rows = [[row.text, row.label] for rows in data.rows.values() for row in rows]
    begun = start.pretrained and [start.pretrained.step, start.pretrained.run]
    return hashlib.sha256(json.dumps([rows, begun], sort_keys=True).encode()).hexdigest()


def _encode(
    rows: list[LabelledText],
    split: str,
    labels: list[str],
    tokenizer: Tokenizer,
    max_length: int,
) -> list[Example]:
    ids, cut = encode_texts([row.text for row in rows], tokenizer, max_length=max_length)
    print(f"{split}: {len(rows):,} texts, {cut:,} cut to {max_length} tokens")
    return [Example(i, label) for i, label in zip(ids, label_ids(rows, labels), strict=True)]


def _frozen(config: FinetuneConfig) -> str:
    """A regex of the parameters that stay; "" for none."""
    parts = ["embeddings"] if config.freeze_embeddings else []
    parts += [f"layer_{layer}" for layer in range(config.freeze_layers)]
    return rf"^encoder/({'|'.join(parts)})/" if parts else ""


def _batches_from(
    data: Data,
    config: FinetuneConfig,
    start: Start,
    step: int,
    steps_per_epoch: int,
) -> Iterator[ClassifyBatch]:
    """Endless batches from `step` on: epoch after epoch, each shuffled anew."""
    epoch, skip = divmod(step, steps_per_epoch)
    while True:
        batches = epoch_batches(
            data.examples["train"],
            batch_size=config.batch_size,
            max_length=config.max_length,
            pad=start.tokenizer.special.pad,
            seed=config.seed,
            epoch=epoch,
        )
        for index, batch in enumerate(batches):
            if index >= skip:
                yield batch
        epoch, skip = epoch + 1, 0


def _validate(
    classifier: Classifier,
    params: PyTree,
    data: Data,
    config: FinetuneConfig,
    start: Start,
) -> dict[str, float]:
    examples = data.examples[VALIDATION]
    probabilities = classifier.probabilities(
        params,
        examples,
        batch_size=EVAL_BATCH,
        max_length=config.max_length,
        pad=start.tokenizer.special.pad,
    )
    return score(np.array([example.label for example in examples]), probabilities)


def _higher_is_better(metrics: dict[str, Any], config: FinetuneConfig) -> float:
    value = metrics[config.metric]
    if value is None or not math.isfinite(value):
        raise InputError(
            f"the validation {config.metric} is not a finite number: training fell apart;"
            " lower config.optimizer.learning_rate and use a new --workdir."
        )
    return -value if config.metric == "loss" else value
