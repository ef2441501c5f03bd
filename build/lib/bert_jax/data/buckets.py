"""Documents on their way from the sources to the shards, dealt by the hash of their text.

A shard is thereby a random sample of the corpus; exact duplicates meet in one shard and
are dropped there; and what is in a shard depends neither on the order of the files nor
on the number of workers. The documents wait in BUCKETS files a split, in the order of
their hash, so that any number of shards can be cut from them afterwards.
"""

import contextlib
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from bert_jax.config import PrepareConfig
from bert_jax.data.dataset import HELDOUT, TRAIN
from bert_jax.errors import InputError
from bert_jax.text.documents import check_found, describe_source, read_documents

# Every shard reads its buckets whole: past some thousand shards that is most of the work,
# and Beam's.
BUCKETS = 256
_HASH = 1 << 32  # the hashes of a split and of a place in it are numbers below this
_DUPLICATES = "duplicates-{}.npy"
_PARAGRAPH = np.dtype([("hash", "<u8"), ("digest", "<u8"), ("line", "<u4")])
Sizes = Counter[tuple[str, int | str]]  # what is counted, and of which source or split


class Document(NamedTuple):
    """A document as a bucket holds it."""

    digest: str  # sha256 of the text, in hex
    source: int  # index into config.sources
    text: str


class Dealt(NamedTuple):
    """What came out of the sources."""

    # Each as described, with the number of its documents and of its records without text.
    sources: list[dict[str, Any]]
    bytes: dict[str, int]  # of text in each split
    bytes_of_passes: dict[str, int]  # the same with every document as often as it is used


def deal(config: PrepareConfig, directory: Path, described: list[dict[str, Any]]) -> Dealt:
    """Reads every source into the buckets of `directory`.

    Raises InputError where a source cannot be read, or is not as `described` in the end.
    """
    sizes: Sizes = Counter()
    with _Files(directory) as files:
        for index, source in enumerate(config.sources):
            found = read_documents(source, text_field=config.text_field)
            documents = hashed((text for text, _ in found), index, config)
            for document in tqdm(documents, desc=f"read {source}", unit=" documents"):
                sizes.update(measure(document, config))
                if not document.text:
                    continue
                split = split_of(document.digest, config)
                bucket = place(document.digest, BUCKETS)
                line = json.dumps(document, ensure_ascii=False) + "\n"
                files.write(f"{split}-{bucket:03d}", line.encode("utf-8", "surrogatepass"))
                if config.drop_duplicate_paragraphs:
                    _write_paragraphs(document, files)
    check_unchanged(described, config)
    if config.drop_duplicate_paragraphs:
        _find_duplicates(directory)
    return add_up(sizes, described, config)


def describe(config: PrepareConfig) -> list[dict[str, Any]]:
    """The sources as they are now."""
    return [describe_source(source) for source in config.sources]


def check_unchanged(described: list[dict[str, Any]], config: PrepareConfig) -> None:
    """Raises InputError unless the sources are still so `described`."""
    if describe(config) != described:
        raise InputError("config.sources changed while they were read: prepare again.")


def hashed(texts: Iterable[str], source: int, config: PrepareConfig) -> Iterator[Document]:
    """The documents of a source: all, or the first `max_documents`."""
    for text in itertools.islice(texts, config.max_documents or None):
        yield Document(_sha256(text).hexdigest(), source, text)


def measure(document: Document, config: PrepareConfig) -> Sizes:
    """What the document adds to the sizes."""
    if not document.text:
        return Counter({("without text", document.source): 1})
    split = split_of(document.digest, config)
    size = len(document.text.encode("utf-8", "surrogatepass"))
    return Counter(
        {
            ("documents", document.source): 1,
            ("bytes", split): size,
            ("bytes of passes", split): size * passes(document, split, config),
        }
    )


def add_up(sizes: Sizes, described: list[dict[str, Any]], config: PrepareConfig) -> Dealt:
    """What came out of the sources.

    Raises InputError where one is empty, or where there is nothing to train on.
    """
    sources = []
    for index, source in enumerate(described):
        count = sizes["documents", index]
        check_found(source["source"], count > 0)
        without = sizes["without text", index]
        sources.append(source | {"documents": count, "without_text": without})
    if not sizes["bytes", TRAIN]:
        raise InputError(
            "config.sources hold no training document: add text,"
            f" or lower config.heldout_fraction={config.heldout_fraction}."
        )
    splits = [split for split in (TRAIN, HELDOUT) if sizes["bytes", split]]
    return Dealt(
        sources,
        {split: sizes["bytes", split] for split in splits},
        {split: sizes["bytes of passes", split] for split in splits},
    )


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
    paths = (directory / f"{split}-{bucket:03d}" for bucket in range(first, last + 1))
    found = distinct(
        Document(*json.loads(line.decode("utf-8", "surrogatepass")))
        for line in _lines(path for path in paths if path.exists())
        # The digest is read before the whole line is parsed: ["0123...
        if place(line[2:66].decode(), shards) == shard
    )
    duplicates = _Duplicates.read(directory)
    return [duplicates.drop_from(document) for document in found]


def distinct(documents: Iterable[Document]) -> list[Document]:
    """In the order of their hashes, of equal texts the one of the first source."""
    found: dict[str, Document] = {}
    for document in documents:
        kept = found.get(document.digest)
        if kept is None or document.source < kept.source:
            found[document.digest] = document
    return [found[digest] for digest in sorted(found)]


def place(digest: str, parts: int) -> int:
    """Which of `parts` equal ranges of hashes; the split is told by other digits."""
    return int(digest[8:16], 16) * parts >> 32


def paragraphs(document: Document) -> Iterator[tuple[int, bytes]]:
    """The number of each line that is not blank, and a hash of what it says."""
    for line, text in enumerate(document.text.splitlines()):
        if text.strip():
            yield line, _sha256(text.strip()).digest()[:8]


def without_lines(document: Document, dropped: set[int]) -> Document:
    """Without the lines of these numbers."""
    if not dropped:
        return document
    lines = enumerate(document.text.splitlines())
    return document._replace(text="\n".join(text for line, text in lines if line not in dropped))


def _lines(paths: Iterable[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as lines:
            yield from lines


def _sha256(text: str) -> Any:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass"))


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
    for line, digest in paragraphs(document):
        paragraph = int.from_bytes(digest, "little"), int(document.digest[:16], 16), line
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
        return without_lines(document, set(self.line[first:stop].tolist()))
