"""Documents on their way from the sources to the shards, dealt by the hash of their text.

A shard is thereby a random sample of the corpus; exact duplicates meet in one shard and
are dropped there; and what is in a shard depends neither on the order of the files nor
on the number of workers. The documents wait in BUCKETS files a split, in the order of
their hash, so that any number of shards can be cut from them afterwards.
"""

import collections
import contextlib
import hashlib
import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from bert_jax.config import PrepareConfig
from bert_jax.data.dataset import HELDOUT, TRAIN
from bert_jax.errors import InputError
from bert_jax.text.documents import describe_source, read_documents

BUCKETS = 256
_HASH = 1 << 32  # the hashes of a split and of a place in it are numbers below this
_DUPLICATES = "duplicates-{}.npy"
_PARAGRAPH = np.dtype([("hash", "<u8"), ("digest", "<u8"), ("line", "<u4")])


class Document(NamedTuple):
    """A document as a bucket holds it."""

    digest: str  # sha256 of the text, in hex
    source: int  # index into config.sources
    text: str


class Dealt(NamedTuple):
    """What came out of the sources."""

    sources: list[dict[str, Any]]  # each as described, with its number of documents
    bytes: dict[str, int]  # of text in each split
    bytes_of_passes: dict[str, int]  # the same with every document as often as it is used


def deal(config: PrepareConfig, directory: Path) -> Dealt:
    """Reads every source into the buckets of `directory`.

    Raises InputError where a source cannot be read, or changes while it is.
    """
    described = [describe_source(source) for source in config.sources]
    counts = []
    size, size_of_passes = collections.Counter(), collections.Counter()
    with _Files(directory) as files:
        for index, source in enumerate(config.sources):
            documents = read_documents(source, text_field=config.text_field)
            if config.max_documents:
                documents = itertools.islice(documents, config.max_documents)
            counts.append(0)
            for text, _ in tqdm(documents, desc=f"read {source}", unit=" documents"):
                counts[-1] += 1
                encoded = text.encode("utf-8", "surrogatepass")
                document = Document(hashlib.sha256(encoded).hexdigest(), index, text)
                split = split_of(document.digest, config)
                bucket = _place(document.digest, BUCKETS)
                line = json.dumps(document, ensure_ascii=False) + "\n"
                files.write(f"{split}-{bucket:03d}", line.encode("utf-8", "surrogatepass"))
                size[split] += len(encoded)
                size_of_passes[split] += len(encoded) * passes(document, split, config)
                if config.drop_duplicate_paragraphs:
                    _write_paragraphs(document, files)
    if [describe_source(source) for source in config.sources] != described:
        raise InputError("config.sources changed while they were read: prepare again.")
    if config.drop_duplicate_paragraphs:
        _find_duplicates(directory)
    sources = [d | {"documents": n} for d, n in zip(described, counts, strict=True)]
    return Dealt(sources, dict(size), dict(size_of_passes))


def split_of(digest: str, config: PrepareConfig) -> str:
    """The split of a document, by its hash alone."""
    is_heldout = int(digest[:8], 16) < config.heldout_fraction * _HASH
    return HELDOUT if is_heldout else TRAIN


def passes(document: Document, split: str, config: PrepareConfig) -> int:
    """How often the document is gone through; a held-out one once."""
    if split == HELDOUT:
        return 1
    of_sources = config.instances.passes
    wanted = of_sources[document.source if len(of_sources) > 1 else 0]
    once_more = int(document.digest[16:24], 16) < (wanted % 1) * _HASH
    return int(wanted) + once_more


def read_shard(directory: Path, split: str, shard: int, shards: int) -> list[Document]:
    """The documents of one of `shards` shards in the order of their hashes, the first of
    equal texts, without the paragraphs that stand elsewhere."""
    first = ((shard << 32) // shards) * BUCKETS >> 32
    last = min((((shard + 1) << 32) // shards) * BUCKETS >> 32, BUCKETS - 1)
    found: dict[str, Document] = {}
    for bucket in range(first, last + 1):
        path = directory / f"{split}-{bucket:03d}"
        if not path.exists():
            continue
        with path.open("rb") as lines:
            for line in lines:
                # The digest is read before the whole line is parsed: ["0123...
                if _place(line[2:66].decode(), shards) != shard:
                    continue
                document = Document(*json.loads(line.decode("utf-8", "surrogatepass")))
                kept = found.get(document.digest)
                if kept is None or document.source < kept.source:
                    found[document.digest] = document
    duplicates = _Duplicates.read(directory)
    return [duplicates.drop_from(found[digest]) for digest in sorted(found)]


def _place(digest: str, parts: int) -> int:
    """Which of `parts` equal ranges of hashes; the split is told by other digits."""
    return int(digest[8:16], 16) * parts >> 32


class _Files(contextlib.ExitStack):
    """Files that are opened for writing when something is first written to them."""

    def __init__(self, directory: Path):
        super().__init__()
        self._directory = directory
        self._open: dict[str, Any] = {}

    def write(self, name: str, content: bytes) -> None:
        if name not in self._open:
            file = (self._directory / name).open("wb")
            self._open[name] = self.enter_context(file)
        self._open[name].write(content)


def _write_paragraphs(document: Document, files: _Files) -> None:
    for line, text in enumerate(document.text.splitlines()):
        if text.strip():
            digest = hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).digest()
            paragraph = int.from_bytes(digest[:8], "little"), int(document.digest[:16], 16), line
            files.write(f"paragraphs-{digest[0]:03d}", np.array(paragraph, _PARAGRAPH).tobytes())


def _find_duplicates(directory: Path) -> None:
    """Writes which lines of which documents to drop: of equal ones, that of the smallest
    document hash stays, and in it the first."""
    dropped = []
    for path in sorted(directory.glob("paragraphs-*")):
        # A document that is there twice is one document.
        found = np.unique(np.fromfile(path, _PARAGRAPH))
        is_repeated = np.append(False, found["hash"][1:] == found["hash"][:-1])
        dropped.append(found[is_repeated][["digest", "line"]])
        path.unlink()
    duplicates = np.concatenate(dropped) if dropped else np.zeros(0, _PARAGRAPH)
    duplicates = np.sort(duplicates, order=("digest", "line"))
    for name in _Duplicates._fields:
        # Contiguous, so that they can be searched in the file.
        np.save(directory / _DUPLICATES.format(name), np.ascontiguousarray(duplicates[name]))


class _Duplicates(NamedTuple):
    """The lines to drop, by document hash and line."""

    digest: np.ndarray
    line: np.ndarray

    @classmethod
    def read(cls, directory: Path) -> "_Duplicates":
        paths = [directory / _DUPLICATES.format(name) for name in cls._fields]
        if not paths[0].exists():
            return cls(np.zeros(0, np.uint64), np.zeros(0, np.uint32))
        return cls(*(np.load(path, mmap_mode="r") for path in paths))

    def drop_from(self, document: Document) -> Document:
        digest = np.uint64(int(document.digest[:16], 16))
        first, stop = (np.searchsorted(self.digest, digest, side) for side in ("left", "right"))
        if first == stop:
            return document
        dropped = set(self.line[first:stop].tolist())
        lines = document.text.splitlines()
        kept = [line for number, line in enumerate(lines) if number not in dropped]
        return document._replace(text="\n".join(kept))
