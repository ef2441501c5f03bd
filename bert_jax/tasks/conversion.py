"""Checkpoints in and out: somebody's weights or a workdir here, to one of the two."""

import contextlib
import dataclasses
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from bert_jax import workdir as wd
from bert_jax.config import ModelConfig
from bert_jax.errors import InputError, first_line
from bert_jax.interchange import (
    architecture,
    growth,
    names,
    safetensors,
    sentence_vectors,
    source,
    vocabulary,
)
from bert_jax.interchange.account import Account, Made, table
from bert_jax.interchange.matching import Allowed, take
from bert_jax.interchange.names import Params
from bert_jax.interchange.sentence_vectors import SentenceVectors
from bert_jax.tasks import saved_model
from bert_jax.tasks.span import END, NONE, START
from bert_jax.text import tokenizer as tokenizers
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.training.checkpoint import Checkpoints, has_checkpoint
from bert_jax.training.record import by_path
from bert_jax.training.state import TrainState

FORMATS = ("bert_jax", "huggingface")
# What a workdir of each task holds.
TASKS = {
    "pretrain": ("encoder", "pooler", "mlm", "next"),
    **dict.fromkeys(
        ("classify", "multilabel", "regress", "choice"), ("encoder", "pooler", "classifier")
    ),
    "tag": ("encoder", "tagger"),
    "span": ("encoder", "span"),
}
# The task of a classifier, by Hugging Face's problem_type; "" = one of the labels is right.
PROBLEMS = {
    "": "classify",
    "multi_label_classification": "multilabel",
    "regression": "regress",
    architecture.MULTIPLE_CHOICE: "choice",
}


@dataclasses.dataclass(frozen=True)
class Options:
    """The flags of `convert`; "" or 0 = nothing of the kind."""

    source: str
    to: str
    format: str
    model_config: str
    tokenizer: str
    allow_missing: str
    allow_unknown: str
    add_words: str
    positions: int

    def __post_init__(self):
        if self.format not in FORMATS:
            raise InputError(f"--format={self.format} is not known: {' or '.join(FORMATS)}.")
        for name in ("allow_missing", "allow_unknown"):
            try:
                re.compile(getattr(self, name))
            except re.error as error:
                raise InputError(
                    f"--{name}={getattr(self, name)} is no regular expression: {error}."
                ) from None


@dataclasses.dataclass(frozen=True)
class Model:
    """A model on its way."""

    kind: str  # what it was read from
    params: Params
    model: ModelConfig
    tokenizer: Tokenizer
    labels: tuple[str, ...]
    problem: str  # of PROBLEMS
    length: int  # the longest row it was trained on, as far as that is known
    vectors: SentenceVectors | None  # that it was trained for, where that is known
    account: Account

    @property
    def modules(self) -> tuple[str, ...]:
        """Those it has, in the table's order."""
        there = {path.split("/")[0] for path in self.params}
        return tuple(module for module in names.MODULES if module in there)


def run(options: Options) -> None:
    """Converts, and prints what became of every tensor. What it writes is whole or not there."""
    to = Path(options.to).absolute()
    if to.exists() and not (to.is_dir() and not any(to.iterdir())):
        raise InputError(f"--to={options.to} already holds something: name a new directory.")
    found = _open(options)
    found = _grown(found, options)
    task = _task(found, options.source) if options.format == "bert_jax" else ""
    with _appearing(to) as directory:
        if options.format == "bert_jax":
            found, what = _write_workdir(found, task, directory, options)
        else:
            what = _write_hugging_face(found, directory)
    print(f"{options.source} ({found.kind})")
    print(table(found.account, found.params))
    if found.vectors:
        print(f"{'vectors':12}{found.vectors.flags}, {found.length:,} tokens at most")
    print(f"{options.to}: {what}, {found.tokenizer.vocab_size:,} pieces")


def _open(options: Options) -> Model:
    path = Path(options.source)
    if has_checkpoint(path) or saved_model.of_seeds(path):
        for name in ("model_config", "tokenizer", "allow_missing", "allow_unknown"):
            if getattr(options, name):
                raise InputError(f"--{name} is for weights of others, and {path} is a workdir.")
        found = _open_workdir(path)
    else:
        found = _open_theirs(path, options)
    if found.tokenizer.vocab_size > found.model.vocab_size:
        raise InputError(
            f"the vocabulary of {options.tokenizer or options.source} has"
            f" {found.tokenizer.vocab_size:,} pieces and the table of the weights"
            f" {found.model.vocab_size:,} rows: give the vocabulary the model was trained with."
        )
    return found


def _open_workdir(path: Path) -> Model:
    saved = saved_model.load(path)
    if saved.task not in TASKS:
        raise InputError(
            f"--from={path} holds a model of config.task={saved.task!r}, a task of one's own, and"
            f" only {', '.join(TASKS)} are converted: name what it began from."
        )
    params = {k: np.asarray(v) for k, v in by_path(saved.params(saved.param_shapes)).items()}
    return Model(
        kind=f"bert_jax, {saved.task}, step {saved.step:,}",
        params=params,
        model=saved.model,
        tokenizer=saved.tokenizer,
        labels=saved.labels,
        problem=next((p for p, task in PROBLEMS.items() if task == saved.task), ""),
        length=saved.run["length"],
        vectors=saved.vectors,
        account=Account(loaded={name: name for name in params}),
    )


def _open_theirs(path: Path, options: Options) -> Model:
    found = source.find(path, config=options.model_config, tokenizer=options.tokenizer)
    said = architecture.read(found.config, is_original=found.is_original)
    tokenizer = tokenizers.load(found.tokenizer)
    allowed = Allowed(options.allow_missing, options.allow_unknown)
    vectors = sentence_vectors.read(found.weights.parent)
    longest = sentence_vectors.max_length(found.weights.parent) if vectors else None
    params, account = take(found.tensors, said, allowed, found.weights)
    return Model(
        kind=f"{found.weights.name}: {found.kind}",
        params=params,
        model=said.model,
        tokenizer=tokenizer,
        labels=said.labels,
        problem=said.problem,
        length=min(said.model.positions, longest or said.model.positions),
        vectors=vectors,
        account=account,
    )


def _grown(found: Model, options: Options) -> Model:
    params, model, tokenizer = found.params, found.model, found.tokenizer
    if options.add_words:
        path = Path(options.add_words)
        words, there = vocabulary.read_words(path, tokenizer)
        pieces = [word.pieces for word in words]
        params, model = growth.add_rows(params, model, pieces, first=tokenizer.vocab_size)
        tokenizer = vocabulary.with_words(tokenizer, words)
        print(f"{path}: {len(words):,} words added, {len(there):,} were there already")
        for name in (growth.TOKENS, growth.MLM_BIAS):
            if name in params:
                _note_rows(found.account, params, name, len(words), "mean of the word's old pieces")
    if options.positions:
        rows = options.positions - model.positions
        params, model = growth.add_positions(params, model, options.positions)
        how = f"the first {found.model.positions:,} again"
        _note_rows(found.account, params, growth.POSITIONS, rows, how)
    return dataclasses.replace(found, params=params, model=model, tokenizer=tokenizer)


def _task(found: Model, source: str) -> str:
    """The task of the workdir to be. Raises InputError for a classifier that is of none."""
    if "tagger" in found.modules:
        return "tag"
    if "classifier" not in found.modules:
        return "span" if "span" in found.modules else "pretrain"
    classes = len(found.labels)
    problem = "regression" if classes == 1 and not found.problem else found.problem
    if problem not in PROBLEMS or (problem == "regression" and classes > 1):
        raise InputError(
            f"--from={source} is a classifier for {problem} with {classes} outputs, which no"
            " task here has: write --format=huggingface."
        )
    return PROBLEMS[problem]


def _note_rows(account: Account, params: Params, path: str, rows: int, how: str) -> None:
    table = params[path]
    account.made[f"{rows:,} rows of {path}"] = Made(how, rows * table.size // len(table), path)


def _write_workdir(found: Model, task: str, directory: Path, options: Options) -> tuple[Model, str]:
    found = _without_others(found, TASKS[task])
    config = {
        "task": task,
        "model": dataclasses.asdict(found.model),
        wd.CONVERTED_FROM: str(Path(options.source).absolute()),
    }
    found.tokenizer.save(directory / wd.TOKENIZER)
    record = {
        "config": config,
        "labels": list(_labels(found, task)),
        "length": found.length,
        "vectors": found.vectors and found.vectors._asdict(),
        "tokenizer": wd.read_files(directory / wd.TOKENIZER),
        "is_over": True,
    }
    with Checkpoints(directory) as checkpoints:
        checkpoints.save(_state(found.params), record, {})
    wd.write_json(directory / wd.CONFIG, config)
    return found, f"a workdir of a {task} model without an optimizer"


def _labels(found: Model, task: str) -> tuple[str, ...]:
    """Somebody's model of spans does not say whether it was trained on questions without an
    answer; those that were not find [CLS] unlikely."""
    return {"pretrain": (), "span": (START, END, NONE)}.get(task, found.labels)


def _without_others(found: Model, modules: tuple[str, ...]) -> Model:
    """Only the modules that the task has; what goes is accounted for."""
    kept = {k: v for k, v in found.params.items() if k.split("/")[0] in modules}
    for path in found.params.keys() - kept.keys():
        module = path.split("/")[0]
        left = found.account.loaded.pop(path, path)
        found.account.left_out[left] = f"of the {module}, which this model has no task for here"
        found.account.made.pop(path, None)
    return dataclasses.replace(found, params=kept)


def _state(params: Params) -> TrainState:
    tree: dict = {}
    for path, array in params.items():
        *folders, name = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = jnp.asarray(array)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=tree,
        optimizer=(),
        key=jax.random.key(0),
        budget_used=jnp.zeros((), jnp.float32),
    )


def _write_hugging_face(found: Model, directory: Path) -> str:
    kind = architecture.class_of(found.modules, found.problem)
    # Within the bare encoder its parts have no name of a whole.
    prefix = "bert." if kind == "BertModel" else ""
    tensors = {}
    for row in names.rows(found.model.layers, found.modules):
        shape = names.size_of(row.their_shape, found.model, len(found.labels))
        array = names.to_theirs(found.params[row.ours], row, shape)
        tensors[row.theirs.removeprefix(prefix)] = array
    safetensors.write(directory, tensors)
    has_labels = {"classifier", "tagger"} & set(found.modules)
    architecture.write(
        directory,
        found.model,
        kind,
        labels=found.labels if has_labels else (),
        problem=found.problem,
        pad=found.tokenizer.special.pad,
    )
    vocabulary.write(found.tokenizer, directory, positions=found.length)
    if found.vectors:
        width, length = found.model.width, found.length
        sentence_vectors.write(found.vectors, directory, width=width, length=length)
    return f"a {kind} for transformers"


@contextlib.contextmanager
def _appearing(to: Path) -> Iterator[Path]:
    """A directory to write into, which gets its name when all of it is written."""
    partial = None
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".partial-{to.name}-", dir=to.parent))
        yield partial
        partial.chmod(0o755)
        os.replace(partial, to)
    except OSError as error:
        raise InputError(
            f"--to={to} cannot be written ({first_line(error)}): mend that, or name another."
        ) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
