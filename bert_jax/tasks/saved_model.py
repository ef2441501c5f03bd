"""A trained model as its workdir holds it: tokenizer, config and parameters of a checkpoint."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from jaxtyping import PyTree

from bert_jax import workdir as wd
from bert_jax.config import ModelConfig
from bert_jax.errors import InputError
from bert_jax.fields import build
from bert_jax.interchange.sentence_vectors import SentenceVectors
from bert_jax.text import tokenizer as tokenizers
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.training.checkpoint import BEST_METRIC, Checkpoints, has_checkpoint

# The parts of a model as a user knows them.
MODULES = {
    "encoder": "encoder",
    "pooler": "pooler",
    "mlm": "head for masked tokens",
    "next": "head for next sentences",
    "classifier": "classifier",
    "tagger": "tagger",
    "span": "head for answers",
}


@dataclasses.dataclass(frozen=True)
class SavedModel:
    """What `load` found; `step` is that of the checkpoint."""

    task: str  # "pretrain" or one of all_tasks
    model: ModelConfig
    tokenizer: Tokenizer
    labels: tuple[str, ...]  # of a fine-tuned model, in the order of its outputs
    run: dict[str, Any]  # the record beside the arrays
    step: int
    directory: Path
    param_shapes: PyTree  # shape and dtype of every parameter

    @property
    def is_converted(self) -> bool:
        """Whether somebody else trained it: no run here, and no settings of one."""
        return wd.CONVERTED_FROM in self.run["config"]

    @property
    def vectors(self) -> SentenceVectors | None:
        """Those that it was trained for, where somebody else has said so."""
        said = self.run.get("vectors")
        return SentenceVectors(**said) if said else None

    def params(self, like: PyTree) -> PyTree:
        """The parameters, checked against the shapes of `like`."""
        with Checkpoints(self.directory) as checkpoints:
            return checkpoints.restore_params(self.step, like)

    def modules(self, like: PyTree) -> PyTree:
        """The parameters of the modules in `like`, checked against the shapes there.

        Raises InputError where the model lacks one, as converted ones may.
        """
        absent = [MODULES[name] for name in like if name not in self.param_shapes]
        if absent:
            raise InputError(
                f"{self.directory} has no {' and no '.join(absent)}: it was converted from a model"
                " without; fine-tune it, or pretrain it further with config.init_from."
            )
        saved = self.params({**self.param_shapes, **like})
        return {name: saved[name] for name in like}


def of_seeds(directory: Path) -> list[Path]:
    """The workdirs below one of several seeds, those that hold a checkpoint."""
    return [run for run in wd.seed_runs(directory) if has_checkpoint(run)]


def check_is_there(directory: str | Path) -> None:
    """Raises InputError where no checkpoint was finished."""
    directory = Path(directory).absolute()
    if has_checkpoint(directory):
        return
    runs = of_seeds(directory)
    if runs:
        raise InputError(f"{directory} holds a run for each seed: name one, such as {runs[0]}.")
    raise InputError(
        f"{directory} holds no finished checkpoint: name the --workdir of a pretrain"
        " or finetune run that has saved one, or convert others' with bert_jax.convert."
    )


def load(directory: str | Path) -> SavedModel:
    """Opens the best checkpoint of a fine-tuning, the newest of a pretraining."""
    check_is_there(directory)
    directory = Path(directory).absolute()
    with Checkpoints(directory, best_metric=BEST_METRIC) as checkpoints:
        step = checkpoints.latest()
        record = checkpoints.read_record(step)
        # A pretraining keeps its best too, but is not done with learning there.
        if record.run["config"]["task"] != "pretrain":
            step = checkpoints.best()
            record = checkpoints.read_record(step)
    run = record.run
    with tempfile.TemporaryDirectory() as folder:
        wd.write_files(Path(folder), run["tokenizer"])
        tokenizer = tokenizers.load(folder)
    model = build(ModelConfig, run["config"]["model"], "config.model")
    return SavedModel(
        task=run["config"]["task"],
        # It need not be used where it was trained.
        model=dataclasses.replace(model, attention="auto"),
        tokenizer=tokenizer,
        labels=tuple(run.get("labels", ())),
        run=run,
        step=step,
        directory=directory,
        param_shapes=record.param_shapes(),
    )
