"""Datasets of TensorFlow Datasets by name, read as ArrayRecord without TensorFlow."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bert_jax.errors import InputError, first_line

# TFDS imports its builders folder by folder and, without a word, stops at the first that
# wants a package which is not here: before these.
BUILDERS = ("question_answering", "summarization", "text", "translate")


class Name(NamedTuple):
    """The parts of `tfds:NAME[:VERSION][:SPLIT]`; NAME may be a prepared directory."""

    name: str
    version: str  # "" = the newest
    split: str


def parse(source: str) -> Name:
    """Raises InputError if no name is given."""
    found = re.fullmatch(r"tfds:([^:]+)(?::(\d+\.\d+\.\d+))?(?::(.+))?", source)
    if found is None:
        raise InputError(f"{source} names no dataset; write tfds:NAME or tfds:NAME:SPLIT.")
    return Name(found[1], found[2] or "", found[3] or "train")


def rows(source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(source#index, features) in the order stored; class labels are their names.

    Raises InputError if the dataset or split is unknown, or cannot be downloaded.
    """
    split = parse(source).split
    builder = _builder(source)
    known = {name: len(info.filenames) for name, info in builder.info.splits.items()}
    if re.split(r"[\[+]", split)[0] not in known:
        raise InputError(
            f"{source}: there is no split {split!r}; it has {', '.join(known) or 'none'}."
        )
    names, lists = _class_names(builder.info.features)
    try:
        examples = builder.as_data_source(split)
    except Exception as error:
        raise InputError(f"{source} cannot be read ({first_line(error)}).") from error
    for index in range(len(examples)):
        row = dict(examples[index])
        for name in names:
            row[name] = names[name][row[name]] if row[name] >= 0 else ""
        for name in lists:
            row[name] = [lists[name][number] if number >= 0 else "" for number in row[name]]
        yield f"{source}#{index}", row


def _class_names(features: Any) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Of the features that are classes, and of those that are lists of classes."""
    from tensorflow_datasets.core.features import ClassLabel, Sequence

    names, lists = {}, {}
    for name, feature in features.items():
        # A list passes for what it holds, in all but its type.
        if isinstance(feature, Sequence) and isinstance(feature.feature, ClassLabel):
            lists[name] = feature.feature.names
        elif isinstance(feature, ClassLabel):
            names[name] = feature.names
    return names, lists


def parts(source: str) -> list[str]:
    """The shards of the split, each as a source; a slice of a split is one part."""
    name, _, split = parse(source)
    info = _builder(source).info
    if split not in info.splits:
        return [source]
    shards = range(info.splits[split].num_shards)
    return [f"tfds:{name}:{info.version}:{split}[{shard}shard]" for shard in shards]


def describe(source: str) -> dict[str, str]:
    """{"dataset": name with config, "version": ...} of what `rows` reads."""
    info = _builder(source).info
    name, version = info.full_name.rsplit("/", 1)
    return {"dataset": name, "version": version, "split": parse(source).split}


def _builder(source: str) -> Any:
    # Half a second and hundreds of modules: only who names a dataset pays.
    import tensorflow_datasets as tfds

    for folder in BUILDERS:
        importlib.import_module(f"tensorflow_datasets.{folder}")
    name, version, _ = parse(source)
    try:
        if Path(name).is_dir():
            return tfds.builder_from_directory(name)
        builder = tfds.builder(f"{name}:{version}" if version else name, file_format="array_record")
        builder.download_and_prepare()
    except Exception as error:  # a builder may raise anything: it runs its dataset's own code
        raise InputError(
            f"{source} cannot be had from TensorFlow Datasets"
            f" ({type(error).__name__}: {first_line(error)}); check its name, and the network."
        ) from error
    return builder
