"""Documents to a dataset of rows: vocabulary, sentence pairs, shards, manifest.

Documents are dealt to shards by the hash of their text, so that a shard is a random
sample of the corpus, exact duplicates meet in one shard and are dropped there, and the
result depends neither on the order of the sources' files nor on the number of workers.
A random next segment comes from a document of the same shard.
"""

import contextlib
import hashlib
import itertools
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from bert_jax import workdir as wd
from bert_jax.config import PrepareConfig, Values, build
from bert_jax.data import dataset
from bert_jax.data.pairs import Instance, document_instances
from bert_jax.data.rows import Row, make_row, pack
from bert_jax.errors import InputError
from bert_jax.text import tokenizer as tokenizers
from bert_jax.text.documents import describe_source, read_documents
from bert_jax.text.sentences import split_sentences
from bert_jax.text.tokenizer import Tokenizer

TOKEN_COUNTS = "token_counts.npy"
FEW_DOCUMENTS = 100  # in a shard: below this, random next segments repeat
_BLOCKS = ".blocks"  # documents on their way to a shard; gone at the end


class Counts(NamedTuple):
    """What one shard holds."""

    documents: int
    sentences: int
    tokens: int  # of the documents, without special tokens
    unknown: int  # of these, [UNK]
    characters: int
    instances: int
    random_next: int
    row_tokens: int  # special ones included, padding not
    rows: int
    record_bytes: int
    most_instances: int  # in one row


class Block(NamedTuple):
    """The work of one process: documents in, one shard out."""

    documents: Path
    split: str
    shard: int
    shards: int


class BlockText(NamedTuple):
    """A document as a block holds it."""

    digest: str  # sha256 of the text
    source: int  # index into config.sources
    text: str


def run(config: Values, workdir: str | Path) -> dict[str, Any]:
    """Prepares `config.sources` (fields: PrepareConfig) in `workdir`; returns the manifest.

    A finished preparation with the same config is returned as it is.
    """
    config = build(PrepareConfig, config)
    is_done = (Path(workdir) / dataset.MANIFEST).exists()
    directory = wd.open_workdir(workdir, config, is_begun=is_done, may_change=("workers",))
    if is_done:
        manifest = dataset.read_manifest(directory)
        _check_sources(manifest, directory)
        return manifest
    started = time.monotonic()
    blocks_dir = directory / _BLOCKS
    shutil.rmtree(blocks_dir, ignore_errors=True)
    blocks_dir.mkdir()
    try:
        documents = _deal_documents(config, blocks_dir)
        tokenizer = _make_tokenizer(config, blocks_dir)
        tokenizer.save(directory / wd.TOKENIZER)
        blocks = _plan_blocks(config, blocks_dir)
        counts, token_counts = _write_blocks(config, tokenizer, blocks, directory)
    finally:
        shutil.rmtree(blocks_dir, ignore_errors=True)
    np.save(directory / TOKEN_COUNTS, token_counts)
    splits: dict[str, list[tuple[int, int]]] = {}
    for block, count in zip(blocks, counts, strict=True):
        if count.rows or block.split == dataset.TRAIN:
            splits.setdefault(block.split, []).append((count.rows, count.record_bytes))
    if not sum(rows for rows, _ in splits[dataset.TRAIN]):
        raise InputError(
            "config.sources hold no sentence for training: every document is blank or made of"
            " control characters."
        )
    dataset.write_metadata(directory, splits)
    manifest = _manifest(config, tokenizer, documents, blocks, counts, directory)
    wd.write_json(directory / dataset.MANIFEST, manifest)
    _report(manifest, seconds=time.monotonic() - started)
    return manifest


def _check_sources(manifest: dict[str, Any], directory: Path) -> None:
    for source in manifest["sources"]:
        try:
            files = describe_source(source["source"])["files"]
        except InputError:
            continue  # a source that is gone cannot contradict: the dataset stands by itself
        if files != source["files"]:
            raise InputError(
                f"{source['source']} has changed since {directory} was prepared from it:"
                " use a new --workdir, or delete this one."
            )


def _deal_documents(config: PrepareConfig, blocks_dir: Path) -> dict[str, int]:
    """Writes every document to the block its hash names; returns documents read by source."""
    read: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        files: dict[str, Any] = {}
        for index, source in enumerate(config.sources):
            documents = read_documents(source, text_field=config.text_field)
            if config.max_documents:
                documents = itertools.islice(documents, config.max_documents)
            read[source] = 0
            for document in tqdm(documents, desc=f"read {source}", unit=" documents"):
                digest = hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).hexdigest()
                name = _block_name(config, digest)
                if name not in files:
                    files[name] = stack.enter_context(
                        open(blocks_dir / name, "w", encoding="utf-8")
                    )
                files[name].write(json.dumps(BlockText(digest, index, document.text)) + "\n")
                read[source] += 1
    return read


def _block_name(config: PrepareConfig, digest: str) -> str:
    # Two independent parts of the hash: one for the split, one for the shard.
    if int(digest[:8], 16) < config.heldout_fraction * 16**8:
        return f"{dataset.HELDOUT}-{0:05d}"
    return f"{dataset.TRAIN}-{int(digest[8:16], 16) % config.shards:05d}"


def _read_block(path: Path) -> list[BlockText]:
    """The documents of a block in the order of their hashes, the first of equal texts."""
    with path.open(encoding="utf-8") as lines:
        found = sorted(BlockText(*json.loads(line)) for line in lines)
    return list({document.digest: document for document in reversed(found)}.values())[::-1]


def _plan_blocks(config: PrepareConfig, blocks_dir: Path) -> list[Block]:
    paths = {
        split: sorted(blocks_dir.glob(f"{split}-*")) for split in (dataset.TRAIN, dataset.HELDOUT)
    }
    if not paths[dataset.TRAIN]:
        raise InputError(
            "config.sources hold no training document: add text,"
            f" or lower config.heldout_fraction={config.heldout_fraction}."
        )
    return [
        Block(path, split, shard, len(found))
        for split, found in paths.items()
        for shard, path in enumerate(found)
    ]


def _make_tokenizer(config: PrepareConfig, blocks_dir: Path) -> Tokenizer:
    if config.tokenizer.path:
        return tokenizers.load(config.tokenizer.path, config.tokenizer)
    texts = (
        document.text
        for path in sorted(blocks_dir.glob(f"{dataset.TRAIN}-*"))
        for document in _read_block(path)
    )
    return tokenizers.train(config.tokenizer, texts)


def _write_blocks(
    config: PrepareConfig, tokenizer: Tokenizer, blocks: list[Block], directory: Path
) -> tuple[list[Counts], np.ndarray]:
    """Turns every block into a shard, in processes; also counts the pieces of the train split."""
    workers = min(config.workers or os.cpu_count() or 1, len(blocks))
    tokenizer_path = directory / wd.TOKENIZER
    token_counts = np.zeros(tokenizer.vocab_size, np.int64)
    counts = []
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        jobs = [(config, block, directory, tokenizer_path) for block in blocks]
        if workers == 1:
            results: Iterator = map(_write_block, jobs)
        else:
            results = stack.enter_context(context.Pool(workers)).imap(_write_block, jobs)
        progress = tqdm(results, desc="write shards", total=len(blocks), unit=" shards")
        for block, (count, pieces) in zip(blocks, progress, strict=True):
            counts.append(count)
            if block.split == dataset.TRAIN:
                token_counts += pieces
    return counts, token_counts


def _write_block(job: tuple[PrepareConfig, Block, Path, Path]) -> tuple[Counts, np.ndarray]:
    config, block, directory, tokenizer_path = job
    tokenizer = tokenizers.load(tokenizer_path)
    documents, sources, characters = _tokenize(_read_block(block.documents), tokenizer)
    pieces = np.bincount(
        np.fromiter((i for document in documents for s in document for i in s), np.int64),
        minlength=tokenizer.vocab_size,
    )
    rng = np.random.default_rng([config.seed, block.split == dataset.HELDOUT, block.shard])
    instances: list[Instance] = []
    rows: list[Row] = []
    passes = np.array([_passes(config, block, source) for source in sources], np.int64)
    for number in range(passes.max(initial=0)):
        of_pass = [
            instance
            for index in rng.permutation(np.flatnonzero(passes > number))
            for instance in document_instances(
                documents,
                int(index),
                length=config.instances.length,
                short_probability=config.instances.short_probability,
                rng=rng,
            )
        ]
        instances += of_pass
        rows += _make_rows(of_pass, config, tokenizer)
    rows = [rows[i] for i in rng.permutation(len(rows))]
    path = dataset.shard_path(directory, block.split, block.shard, block.shards)
    written, size = dataset.write_shard(path, rows)
    counts = Counts(
        documents=len(documents),
        sentences=sum(map(len, documents)),
        tokens=int(pieces.sum()),
        unknown=int(pieces[tokenizer.special.unk]),
        characters=characters,
        instances=len(instances),
        random_next=sum(instance.is_random_next for instance in instances),
        row_tokens=sum(len(row.ids) for row in rows),
        rows=written,
        record_bytes=size,
        most_instances=max((len(row.lengths) for row in rows), default=0),
    )
    return counts, pieces


def _passes(config: PrepareConfig, block: Block, source: int) -> int:
    if block.split == dataset.HELDOUT:
        return 1
    passes = config.instances.passes
    return passes[source if len(passes) > 1 else 0]


def _tokenize(
    documents: list[BlockText], tokenizer: Tokenizer
) -> tuple[list[list[list[int]]], list[int], int]:
    """Documents as sentences of ids, empty ones dropped; their sources; characters."""
    tokenized, sources = [], []
    characters = 0
    for document in documents:
        sentences = split_sentences(document.text)
        characters += sum(map(len, sentences))
        if ids := [ids for ids in tokenizer.encode_batch(sentences) if ids]:
            tokenized.append(ids)
            sources.append(document.source)
    return tokenized, sources, characters


def _make_rows(instances: list[Instance], config: PrepareConfig, tokenizer: Tokenizer) -> list[Row]:
    if config.instances.packing:
        lengths = [len(instance.a) + len(instance.b) + 3 for instance in instances]
        groups = pack(lengths, config.instances.length)
    else:
        groups = [[index] for index in range(len(instances))]
    special = tokenizer.special
    return [
        make_row([instances[i] for i in group], cls=special.cls, sep=special.sep)
        for group in groups
    ]


def _manifest(
    config: PrepareConfig,
    tokenizer: Tokenizer,
    documents: dict[str, int],
    blocks: list[Block],
    counts: list[Counts],
    directory: Path,
) -> dict[str, Any]:
    totals: dict[str, dict[str, int]] = {}
    for split in dict.fromkeys(block.split for block in blocks):
        of_split = [c for b, c in zip(blocks, counts, strict=True) if b.split == split]
        totals[split] = {
            name: sum(getattr(count, name) for count in of_split)
            for name in Counts._fields
            if name != "most_instances"
        }
        totals[split]["shards"] = len(of_split)
        if not totals[split]["rows"]:
            del totals[split]
    shards = [dataset.shard_path(directory, b.split, b.shard, b.shards) for b in blocks]
    return {
        "sources": [
            describe_source(source) | {"documents": documents[source]} for source in config.sources
        ],
        "splits": totals,
        "length": config.instances.length,
        "max_instances": max(count.most_instances for count in counts),
        "vocab_size": tokenizer.vocab_size,
        "tokenizer": tokenizer.fingerprint,
        "shards": {path.name: _sha256(path) for path in shards},
        # Without what the result does not depend on.
        "config": {k: v for k, v in wd.read_config(directory).items() if k != "workers"},
    }


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _report(manifest: dict[str, Any], *, seconds: float) -> None:
    for split, total in manifest["splits"].items():
        filled = total["row_tokens"] / max(total["rows"] * manifest["length"], 1)
        print(
            f"{split}: {total['documents']:,} documents, {total['sentences']:,} sentences,"
            f" {total['tokens']:,} tokens"
            f" ({total['unknown'] / max(total['tokens'], 1):.2%} unknown),"
            f" {total['instances']:,} instances"
            f" ({total['random_next'] / max(total['instances'], 1):.1%} random next)"
            f" in {total['rows']:,} rows of {manifest['length']}, {filled:.1%} filled"
        )
    train = manifest["splits"][dataset.TRAIN]
    if train["documents"] < FEW_DOCUMENTS * train["shards"]:
        print(
            f"note: a shard holds {train['documents'] / train['shards']:.0f} documents, and a"
            " random next segment comes from its own shard: lower config.shards."
        )
    print(f"prepared in {seconds:.0f} s")
