"""The phases of a pretraining: which rows, in what batches, from which step to which."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grain
import jax.numpy as jnp
from jaxtyping import Array, Float

from bert_jax import workdir as wd
from bert_jax.config import MaskingConfig, OptimizerConfig, PhaseConfig, PretrainConfig
from bert_jax.data import dataset, pipeline
from bert_jax.errors import InputError
from bert_jax.tasks.saved_model import SavedModel
from bert_jax.tasks.start import NONE
from bert_jax.tasks.vocabulary import check_same_vocabulary, fit_vocabulary
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.training.schedules import Schedule, make_schedule
from bert_jax.training.sharding import host_part, make_mesh
from bert_jax.training.state import TrainState

# What the batches of a dataset depend on; not where its sources lay.
IDENTITY = ("version", "shards", "tokenizer", "length", "max_instances")


@dataclasses.dataclass(frozen=True)
class Data:
    """A prepared dataset opened for a run."""

    directory: Path
    manifest: dict[str, Any]
    tokenizer: Tokenizer

    @classmethod
    def open(cls, path: str, *, field: str) -> "Data":
        """Raises InputError when there is none; `field` of the config has named the path."""
        if not path:
            raise InputError(f"{field} is empty: name the --workdir of a prepare run.")
        directory = Path(path).absolute()
        manifest = dataset.read_manifest(directory)
        dataset.check_shards(directory, manifest)
        tokenizer = dataset.load_tokenizer(directory, manifest)
        return cls(directory, manifest, tokenizer)

    @property
    def length(self) -> int:
        """Tokens in a row."""
        return self.manifest["length"]

    def check_length(self, config: PretrainConfig) -> None:
        """Raises InputError where its rows have more tokens than the model has positions."""
        positions = config.model.positions
        if self.length <= positions:
            return
        mend = "raise it"
        if config.init_from != NONE:
            mend = f"convert config.init_from with bert_jax.convert --positions={self.length}"
        raise InputError(
            f"the rows of {self.directory} have {self.length} tokens and the model"
            f" config.model.positions={positions}: prepare with"
            f" --config.instances.length={positions}, or {mend}."
        )

    def has_heldout(self) -> bool:
        """Whether any row was kept for evaluation."""
        return dataset.HELDOUT in self.manifest["splits"]

    def identity(self) -> str:
        """A hash of all that its batches depend on."""
        rows = json.dumps({name: self.manifest[name] for name in IDENTITY}, sort_keys=True)
        return hashlib.sha256(rows.encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Phase:
    """Steps `first` + 1 to `last` of a run."""

    data: Data
    first: int
    last: int
    samples_before: int  # of the same rows, read by the phases before
    batch_size: int
    microbatches: int
    masking: MaskingConfig
    seed: int
    host: int  # which part of a batch's rows is read here
    hosts: int  # of how many parts

    def training_batches(self) -> grain.MapDataset:
        """This host's part of every batch; element s belongs to step `first` + 1 + s."""
        return pipeline.training_batches(
            dataset.RowSource(self.data.directory, dataset.TRAIN),
            first_sample=self.samples_before,
            **self._shape(),
        )

    def heldout_batches(self, count: int = 0) -> grain.MapDataset:
        """The first `count` batches of the held-out rows, masks fixed; 0 = all."""
        rows = dataset.RowSource(self.data.directory, dataset.HELDOUT)
        batches = pipeline.heldout_batches(rows, **self._shape())
        return batches[:count] if count else batches

    def samples(self, step: int) -> int:
        """How many samples of these rows the run has read after `step`."""
        return self.samples_before + (step - self.first) * self.batch_size

    def every(self, steps: int) -> range:
        """Every so many steps of the run, up to the end of the phase."""
        return range(0, self.last, steps)

    def batch_name(self, step: int) -> str:
        """The samples that step number `step`, from 1, reads."""
        last = self.samples(step) - 1
        return f"samples {last - self.batch_size + 1:,} to {last:,} of {self.data.directory}"

    def _shape(self) -> dict[str, Any]:
        return dict(
            tokenizer=self.data.tokenizer,
            masking=self.masking,
            length=self.data.length,
            max_instances=self.data.manifest["max_instances"],
            batch_size=self.batch_size,
            seed=self.seed,
            host=self.host,
            hosts=self.hosts,
        )


def phase_configs(config: PretrainConfig) -> tuple[PhaseConfig, ...]:
    """The phases of a run; the first is what stands outside `then`."""
    first = PhaseConfig(
        data=config.data,
        steps=config.steps,
        batch_size=config.batch_size,
        microbatches=config.microbatches,
        max_predictions=config.masking.max_predictions,
        learning_rate=0.0,
        warmup_fraction=0.0,
    )
    return (first, *config.then)


def open_phases(
    config: PretrainConfig, begun_from: SavedModel | None
) -> tuple[PretrainConfig, list[Phase]]:
    """The config with paths and vocabulary resolved, and its phases with their data opened.

    Raises InputError where a dataset does not fit the model, or the phases, or the model that
    the run begins from, have different vocabularies.
    """
    parts = host_part(make_mesh(config.mesh))
    phases: list[Phase] = []
    for number, part in enumerate(phase_configs(config)):
        phases.append(_open(part, number, phases, config, *parts))
    if begun_from is not None:
        check_same_vocabulary(
            phases[0].data.directory,
            phases[0].data.tokenizer,
            begun_from.tokenizer,
            whose=f"config.init_from={begun_from.directory} has",
            mend=f"prepare it with --config.tokenizer.path={begun_from.directory / wd.TOKENIZER}",
        )
    then = tuple(
        dataclasses.replace(part, data=str(phase.data.directory))
        for part, phase in zip(config.then, phases[1:], strict=True)
    )
    config = dataclasses.replace(
        config,
        data=str(phases[0].data.directory),
        then=then,
        model=fit_vocabulary(config.model, phases[0].data.tokenizer),
    )
    return config, phases


def position(phases: list[Phase], step: int) -> dict[str, Any]:
    """Where a run is in its data after `step`: the samples its phase has read, and which rows
    every phase reads."""
    return {
        "samples": _phase_of(phases, step).samples(step),
        "datasets": [phase.data.identity() for phase in phases],
    }


def check_position(saved: dict[str, Any], phases: list[Phase], step: int) -> None:
    """Raises InputError, saying which of the two, where a checkpoint's data position is not
    that of the run going on from it."""
    here, phase = position(phases, step), _phase_of(phases, step)
    for each, before, now in zip(phases, saved["datasets"], here["datasets"], strict=False):
        if before != now:
            raise InputError(
                f"the rows of {each.data.directory} are not those this run began with:"
                " prepare the same dataset again, or start in a new --workdir."
            )
    if saved["samples"] != here["samples"] or len(saved["datasets"]) != len(phases):
        raise InputError(
            f"the checkpoint of step {step} has read {saved['samples']:,} samples and"
            f" a batch size of {phase.batch_size} would have read {here['samples']:,}:"
            " set config.batch_size and the phases in config.then as they were."
        )


def rate_of(config: PretrainConfig) -> Callable[[TrainState], Float[Array, ""]]:
    """The learning rate of a state: by its step, or by its share of the time budget."""
    schedules = _schedules(config.optimizer, config)
    if config.budget_minutes:
        schedule = schedules[0][1]
        total = sum(phase.steps for phase in phase_configs(config))
        return lambda state: schedule(state.budget_used * total)

    def by_step(state: TrainState) -> Float[Array, ""]:
        rate = schedules[0][1](state.step)
        for first, schedule in schedules[1:]:
            rate = jnp.where(state.step < first, rate, schedule(state.step - first))
        return rate

    return by_step


def _phase_of(phases: list[Phase], step: int) -> Phase:
    """The phase that has done `step` as its last so far."""
    return next((phase for phase in phases if step <= phase.last), phases[-1])


def _schedules(optimizer: OptimizerConfig, config: PretrainConfig) -> list[tuple[int, Schedule]]:
    """Each schedule with the step it begins at: one for the phases until one has its own."""
    parts = [[0, config.steps, optimizer]]
    for phase in config.then:
        if phase.learning_rate:
            own = dataclasses.replace(
                optimizer,
                learning_rate=phase.learning_rate,
                warmup_fraction=phase.warmup_fraction,
            )
            parts.append([parts[-1][0] + parts[-1][1], phase.steps, own])
        else:
            parts[-1][1] += phase.steps
    return [(first, make_schedule(own, total_steps=steps)) for first, steps, own in parts]


def _open(
    part: PhaseConfig,
    number: int,
    before: list[Phase],
    config: PretrainConfig,
    host: int,
    hosts: int,
) -> Phase:
    if part.data or not before:
        field = f"config.then[{number - 1}].data" if before else "config.data"
        data = Data.open(part.data, field=field)
        data.check_length(config)
    else:
        data = before[-1].data
    if before:
        first_data = before[0].data
        check_same_vocabulary(
            data.directory,
            data.tokenizer,
            first_data.tokenizer,
            whose=str(first_data.directory),
            mend=f"prepare it with --config.tokenizer.path={first_data.directory / wd.TOKENIZER}",
        )
    first = before[-1].last if before else 0
    same = [phase for phase in before if phase.data.identity() == data.identity()]
    return Phase(
        data=data,
        first=first,
        last=first + part.steps,
        samples_before=same[-1].samples(same[-1].last) if same else 0,
        batch_size=part.batch_size,
        microbatches=part.microbatches,
        masking=dataclasses.replace(config.masking, max_predictions=part.max_predictions),
        seed=config.seed,
        host=host,
        hosts=hosts,
    )
