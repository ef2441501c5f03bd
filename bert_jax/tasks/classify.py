"""Fine-tuning a classifier of single texts: sentiment, topics."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from bert_jax import workdir as wd
from bert_jax.arrays import ClassifyBatch
from bert_jax.config import FinetuneConfig, LabelledDataConfig, ModelConfig, Values, build
from bert_jax.data.labelled import Example, encode_texts, epoch_batches, label_ids
from bert_jax.errors import InputError
from bert_jax.model.bert import ClassifyModel
from bert_jax.tasks import plots, saved_model
from bert_jax.tasks.classifier import Classifier, score
from bert_jax.tasks.vocabulary import fit_vocabulary
from bert_jax.text import tokenizer as tokenizers
from bert_jax.text.labelled import LabelledText, clean_split, read_labelled
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.training.checkpoint import BEST_METRIC, Checkpoints, has_checkpoint
from bert_jax.training.logging import RunLog, read_metrics
from bert_jax.training.loop import TOKENS, At, train
from bert_jax.training.losses import accuracy, cross_entropy
from bert_jax.training.metrics import Mean
from bert_jax.training.optimizer import make_optimizer
from bert_jax.training.sharding import batch_placer, check_batch, make_mesh
from bert_jax.training.state import TrainState, init_state
from bert_jax.training.step import Objective, make_train_step

VALIDATION = "validation"
# Fields of `model` that are this run's own; the others are the checkpoint's.
OWN_FIELDS = ("dropout", "attention_dropout", "compute_dtype", "remat", "scan_layers")
# Metric to what the progress bar calls it.
SHOWN = {"loss": "loss", "accuracy": "accuracy", "tokens_per_second": "tok/s"}
EVAL_BATCH = 64


class Start(NamedTuple):
    """What fine-tuning begins with."""

    model: ModelConfig
    tokenizer: Tokenizer
    pretrained: saved_model.SavedModel | None


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
    start = _start(config)
    init_from = config.init_from if start.pretrained is None else str(start.pretrained.directory)
    config = dataclasses.replace(config, init_from=init_from, model=start.model)
    mesh = make_mesh(config.mesh)
    check_batch(mesh, config.batch_size)
    data = Data.open(config, start.tokenizer)
    directory = wd.open_workdir(workdir, config, is_begun=has_checkpoint(workdir))
    start.tokenizer.save(directory / wd.TOKENIZER)
    best = _finetune(config, start, data, mesh, directory)
    plots.draw_curves(directory)
    return best


def _finetune(
    config: FinetuneConfig, start: Start, data: Data, mesh: Mesh, directory: Path
) -> dict[str, Any]:
    """Trains from the newest checkpoint, or from `start`; returns the best validation."""
    classifier = Classifier(config.model, len(data.labels))
    steps_per_epoch = -(-len(data.examples["train"]) // config.batch_size)
    total_steps = steps_per_epoch * config.epochs
    record = {
        "config": dataclasses.asdict(config),
        "labels": data.labels,
        "length": config.max_length,
        "inputs": _inputs(data, start),
        "tokenizer": wd.read_files(directory / wd.TOKENIZER),
    }
    with Checkpoints(directory, keep=1, best_metric=BEST_METRIC) as checkpoints:
        first = _first_step(checkpoints, record)
        with RunLog(directory, step=first, total_steps=total_steps, title="finetune") as log:
            validations = Validations(config, read_metrics(directory))

            def validate(state: TrainState, step: int) -> bool:
                metrics = _validate(classifier, state.params, data, config, start)
                validations.add(log.write(step, VALIDATION, metrics))
                log.say(f"step {step}: " + ", ".join(f"{k} {v:.4f}" for k, v in metrics.items()))
                best_metric = {BEST_METRIC: _higher_is_better(metrics, config)}
                checkpoints.save(state, record | {"step": step}, metrics=best_metric)
                return validations.is_over()

            if first < total_steps and not validations.is_over():
                optimizer, schedule = make_optimizer(
                    config.optimizer, total_steps=total_steps, frozen=_frozen(config)
                )
                state = init_state(
                    classifier.init_params, optimizer, seed=config.seed, prng=config.prng, mesh=mesh
                )
                objective = make_objective(classifier.model)
                batches = _batches_from(data, config, start, first, steps_per_epoch)
                train(
                    _restored(state, checkpoints, first, start),
                    make_train_step(objective, optimizer, schedule, mesh=mesh),
                    map(batch_placer(mesh), batches),
                    total_steps=total_steps,
                    log_every=config.log_every,
                    log=log,
                    shown=SHOWN,
                    actions=[At(_validation_steps(config, steps_per_epoch), validate)],
                )
    return validations.best()


def _validation_steps(config: FinetuneConfig, steps_per_epoch: int) -> set[int]:
    """Evenly over every epoch, the last at its end; after every step where there are fewer."""
    parts = config.evals_per_epoch
    return {round(n * steps_per_epoch / parts) for n in range(1, config.epochs * parts + 1)}


def _inputs(data: Data, start: Start) -> str:
    """A hash of the rows and of the checkpoint begun from: what a continued run must share."""
    rows = [[row.text, row.label] for rows in data.rows.values() for row in rows]
    begun = start.pretrained and [start.pretrained.step, start.pretrained.run]
    return hashlib.sha256(json.dumps([rows, begun], sort_keys=True).encode()).hexdigest()


def _first_step(checkpoints: Checkpoints, record: dict[str, Any]) -> int:
    """The step of the newest checkpoint, whose run must be this one; 0 without any."""
    newest = checkpoints.latest()
    if newest is None:
        return 0
    if checkpoints.read_run(newest)["inputs"] != record["inputs"]:
        raise InputError(
            f"{checkpoints.directory.parent} was begun with other rows or from another"
            " config.init_from checkpoint: use a new --workdir, or delete this one."
        )
    return newest


def _restored(state: TrainState, checkpoints: Checkpoints, step: int, start: Start) -> TrainState:
    """The state of the checkpoint `step`; without one `state` with the pretrained encoder."""
    if step:
        return checkpoints.restore(step, state)
    if start.pretrained is None:
        return state
    return state._replace(params=_load_encoder(start.pretrained, state.params))


def _start(config: FinetuneConfig) -> Start:
    if config.init_from == "none":
        tokenizer = tokenizers.load(config.tokenizer)
        model = fit_vocabulary(config.model, tokenizer)
        pretrained = None
    else:
        pretrained = saved_model.load(config.init_from)
        tokenizer = pretrained.tokenizer
        own = {name: getattr(config.model, name) for name in OWN_FIELDS}
        model = dataclasses.replace(pretrained.model, **own)
        # The config file has sizes too, and an override of them would go unnoticed.
        print(f"model: as {config.init_from} has it, {model.layers} layers of width {model.width}")
    if config.max_length > model.positions:
        raise InputError(
            f"config.max_length={config.max_length} is over the {model.positions} positions of the"
            " model: lower it."
        )
    if config.freeze_layers > model.layers:
        raise InputError(
            f"config.freeze_layers={config.freeze_layers} is over the {model.layers} layers of the"
            " model: lower it."
        )
    return Start(model, tokenizer, pretrained)


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


def _load_encoder(pretrained: saved_model.SavedModel, params: PyTree) -> PyTree:
    """`params` with the encoder and the pooler of the pretrained model, in its place."""
    saved = pretrained.params(_merge(pretrained.param_shapes(), params))
    return {**params, "encoder": saved["encoder"], "pooler": saved["pooler"]}


def _merge(saved: PyTree, params: PyTree) -> PyTree:
    """The saved tree's shapes, but this model's shapes and shardings for what it shares."""
    return {**saved, "encoder": params["encoder"], "pooler": params["pooler"]}


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
