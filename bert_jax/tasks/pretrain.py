"""Pretraining: masked tokens and next sentence on a prepared dataset."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from bert_jax import workdir as wd
from bert_jax.arrays import PretrainBatch
from bert_jax.config import ModelConfig, PretrainConfig, Values, build
from bert_jax.data import dataset, pipeline
from bert_jax.errors import InputError
from bert_jax.model.bert import PretrainModel
from bert_jax.tasks import plots
from bert_jax.tasks.saved_model import SavedModel
from bert_jax.tasks.vocabulary import fit_vocabulary
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.training.checkpoint import Checkpoints, has_checkpoint
from bert_jax.training.distributed import agreement, is_main
from bert_jax.training.logging import RunLog, read_metrics
from bert_jax.training.loop import TOKENS, At, evaluate, train
from bert_jax.training.losses import accuracy, cross_entropy
from bert_jax.training.metrics import Mean
from bert_jax.training.optimizer import make_optimizer
from bert_jax.training.sharding import batch_placer, check_batch, host_part, make_mesh, replicated
from bert_jax.training.state import TrainState, init_state
from bert_jax.training.step import Objective, make_eval_step, make_train_step

# Metric to what the progress bar calls it.
SHOWN = {
    "mlm_loss": "loss",
    "mlm_accuracy": "masked",
    "next_accuracy": "nsp",
    "tokens_per_second": "tok/s",
}

# Fields that a continued run may have otherwise: where the data lies (its content is
# checked), and when something is written.
MAY_CHANGE = ("data", "keep", "log_every", "eval_every", "eval_batches", "save_every")


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
        tokens = (batch.tokens.instances > 0).sum().astype(jnp.float32)
        return (
            {"mlm_loss": cross_entropy(*mlm), "next_loss": cross_entropy(*following)},
            {
                "mlm_accuracy": accuracy(*mlm),
                "next_accuracy": accuracy(*following),
                TOKENS: Mean(tokens, jnp.ones(())),
            },
        )

    return Objective(weights, losses)


def init_params(config: ModelConfig, key: jax.Array) -> PyTree:
    """Fresh parameters of the pretraining model."""
    batch = jax.tree.map(jnp.asarray, pipeline.example_batch())
    variables = PretrainModel(config).init(
        key, batch.tokens, batch.mask_positions, batch.cls_positions, deterministic=True
    )
    return variables["params"]


@dataclasses.dataclass(frozen=True)
class Data:
    """A prepared dataset opened for a run."""

    directory: Path
    manifest: dict[str, Any]
    tokenizer: Tokenizer

    @classmethod
    def open(cls, config: PretrainConfig) -> "Data":
        """Raises InputError when there is none, or its rows do not fit the model."""
        if not config.data:
            raise InputError("config.data is empty: name the --workdir of a prepare run.")
        directory = Path(config.data).absolute()
        manifest = dataset.read_manifest(directory)
        dataset.check_shards(directory, manifest)
        tokenizer = dataset.load_tokenizer(directory, manifest)
        if manifest["length"] > config.model.positions:
            raise InputError(
                f"the rows of {config.data} have {manifest['length']} tokens and the model"
                f" config.model.positions={config.model.positions}: prepare with"
                f" --config.instances.length={config.model.positions}, or raise it."
            )
        return cls(directory, manifest, tokenizer)

    def batches(self, config: PretrainConfig, split: str):
        """The batches of a split on this host."""
        host, hosts = host_part(make_mesh(config.mesh))
        make = pipeline.training_batches if split == dataset.TRAIN else pipeline.heldout_batches
        return make(
            dataset.RowSource(self.directory, split),
            self.tokenizer,
            config.masking,
            length=self.manifest["length"],
            max_instances=self.manifest["max_instances"],
            batch_size=config.batch_size,
            seed=config.seed,
            host=host,
            hosts=hosts,
        )


def run(config: Values, workdir: str | Path) -> dict[str, float]:
    """Pretrains (fields: PretrainConfig) and returns the last held-out metrics.

    A workdir with checkpoints is continued from the newest one, bit for bit; a finished
    one returns what it reached.
    """
    with agreement():
        config = build(PretrainConfig, config)
        data = Data.open(config)
        config = dataclasses.replace(
            config, data=str(data.directory), model=fit_vocabulary(config.model, data.tokenizer)
        )
        mesh = make_mesh(config.mesh)
        check_batch(mesh, config.batch_size, config.microbatches)
        host_part(mesh)
    directory = _open_workdir(config, data, workdir)

    with Checkpoints(directory, keep=config.keep) as checkpoints:
        start = checkpoints.latest() or 0
        if start:
            _check_position(checkpoints.read_run(start)["position"], config, data, start)
        if start < config.steps:
            with RunLog(directory, step=start, total_steps=config.steps, title="pretrain") as log:
                _train(config, data, mesh, checkpoints, log, start)
    with agreement():  # after which the log is whole for all of them
        if is_main():
            plots.draw_curves(directory)
    points = read_metrics(directory)
    return next((p for p in reversed(points) if p["split"] == dataset.HELDOUT), points[-1])


def _open_workdir(config: PretrainConfig, data: Data, workdir: str | Path) -> Path:
    """The workdir with config and tokenizer, written by the main process before the others look."""

    def opened(writes: bool) -> Path:
        is_begun = has_checkpoint(workdir)
        return wd.open_workdir(
            workdir, config, is_begun=is_begun, may_change=MAY_CHANGE, writes=writes
        )

    with agreement():
        if is_main():
            data.tokenizer.save(opened(writes=True) / wd.TOKENIZER)
    with agreement():
        return opened(writes=False)


def _train(
    config: PretrainConfig,
    data: Data,
    mesh: Mesh,
    checkpoints: Checkpoints,
    log: RunLog,
    start: int,
) -> None:
    """Trains from the checkpoint of step `start`, or where that is 0 from nothing."""
    optimizer, schedule = make_optimizer(config.optimizer, total_steps=config.steps)
    objective = make_objective(PretrainModel(config.model))
    place = batch_placer(mesh)
    state = init_state(
        lambda key: init_params(config.model, key),
        optimizer,
        seed=config.seed,
        prng=config.prng,
        mesh=mesh,
    )
    if start:
        state = checkpoints.restore(start, state)
    train(
        state,
        make_train_step(
            objective, optimizer, schedule, mesh=mesh, microbatches=config.microbatches
        ),
        map(place, pipeline.iterate_from(data.batches(config, dataset.TRAIN), start)),
        total_steps=config.steps,
        log_every=config.log_every,
        log=log,
        shown=SHOWN,
        actions=_actions(config, data, objective, place, checkpoints, log),
    )


def _actions(
    config: PretrainConfig,
    data: Data,
    objective: Objective,
    place: Callable[[PyTree], PyTree],
    checkpoints: Checkpoints,
    log: RunLog,
) -> list[At]:
    """Held-out evaluation, where there are held-out rows, and then saving."""

    def every(steps: int) -> range:
        return range(0, config.steps, steps)

    def save(state: TrainState, step: int) -> None:
        checkpoints.save(state, _run_record(config, data, step), metrics={})

    saving = At(every(config.save_every), save)
    heldout = _heldout_batches(config, data)
    if heldout is None:
        log.say(f"{config.data} has no held-out rows: nothing is evaluated as it goes.")
        return [saving]
    eval_step = make_eval_step(objective)
    constants = {"unigram_loss": _unigram_loss(data, iter(heldout))}

    def measure(state: TrainState, step: int) -> None:
        metrics = evaluate(eval_step, state.params, map(place, heldout))
        log.write(step, dataset.HELDOUT, metrics | constants)

    return [At(every(config.eval_every), measure), saving]


def evaluate_heldout(config: PretrainConfig, found: SavedModel) -> dict[str, float]:
    """Every held-out metric of a finished run; the masks are those of its training log.

    Raises InputError when the rows were prepared with another vocabulary.
    """
    data = Data.open(config)
    if data.tokenizer.fingerprint != found.tokenizer.fingerprint:
        raise InputError(
            f"{config.data} was prepared with another vocabulary than {found.directory} was"
            " trained with: name the dataset of that run."
        )
    heldout = _heldout_batches(config, data)
    if heldout is None:
        raise InputError(
            f"{config.data} has no held-out rows: prepare it with config.heldout_fraction above 0."
        )
    mesh = make_mesh(config.mesh)
    check_batch(mesh, config.batch_size)
    params = found.params(
        jax.eval_shape(lambda key: init_params(found.model, key), jax.random.key(0))
    )
    metrics = evaluate(
        make_eval_step(make_objective(PretrainModel(found.model))),
        jax.device_put(params, replicated(mesh)),
        map(batch_placer(mesh), heldout),
    )
    return metrics | {"unigram_loss": _unigram_loss(data, iter(heldout))}


def _heldout_batches(config: PretrainConfig, data: Data):
    if dataset.HELDOUT not in data.manifest["splits"]:
        return None
    batches = data.batches(config, dataset.HELDOUT)
    return batches[: config.eval_batches] if config.eval_batches else batches


def _unigram_loss(data: Data, batches: Iterable[PretrainBatch]) -> float:
    """Cross-entropy in nats of the masked tokens under the training pieces' frequencies.

    What a model reaches that has learnt how frequent each piece is and nothing else;
    one is added to every count, so that a piece never seen costs a finite amount.
    """
    counts = dataset.read_token_counts(data.directory) + 1
    cost = np.log(counts.sum()) - np.log(counts)
    total = weight = 0.0
    for batch in batches:
        total += float((cost[batch.mask_labels] * batch.mask_weights).sum())
        weight += float(batch.mask_weights.sum())
    return total / weight


def _position(config: PretrainConfig, data: Data, step: int) -> dict[str, Any]:
    """Where a run is in its data: samples read, and of which dataset."""
    # What the batches depend on; not where the sources lay.
    told = ("version", "shards", "tokenizer", "length", "max_instances")
    rows = json.dumps({name: data.manifest[name] for name in told}, sort_keys=True)
    return {
        "samples": step * config.batch_size,
        "dataset": hashlib.sha256(rows.encode()).hexdigest(),
    }


def _check_position(saved: dict[str, Any], config: PretrainConfig, data: Data, step: int) -> None:
    here = _position(config, data, step)
    if saved["dataset"] != here["dataset"]:
        raise InputError(
            f"the rows of {data.directory} are not those this run began with:"
            " prepare the same dataset again, or start in a new --workdir."
        )
    if saved["samples"] != here["samples"]:
        raise InputError(
            f"the checkpoint of step {step} has read {saved['samples']:,} samples and"
            f" config.batch_size={config.batch_size} would have read {here['samples']:,}:"
            " set config.batch_size as it was."
        )


def _run_record(config: PretrainConfig, data: Data, step: int) -> dict[str, Any]:
    return {
        "position": _position(config, data, step),
        "config": dataclasses.asdict(config),
        "length": data.manifest["length"],
        "tokenizer": wd.read_files(data.directory / wd.TOKENIZER),
    }
