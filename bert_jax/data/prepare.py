"""Documents to a dataset of rows: vocabulary, instances, shards, manifest.

Killed at any moment and started again, a preparation goes on: with the documents it has
dealt, the vocabulary it has trained and the shards it has written. The result is the
same, to the byte, whatever happened and however many workers there were.
"""

import contextlib
import functools
import json
import math
import multiprocessing
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from bert_jax import workdir as wd
from bert_jax.config import PrepareConfig, Values, build
from bert_jax.data import buckets, dataset
from bert_jax.data.shards import Counts, make_shard
from bert_jax.errors import InputError
from bert_jax.text import tokenizer as tokenizers
from bert_jax.text import wordpiece
from bert_jax.text.documents import describe_source
from bert_jax.text.files import checksum
from bert_jax.text.tokenizer import Tokenizer

T = TypeVar("T")
R = TypeVar("R")

TOKEN_COUNTS = "token_counts.npy"
FEW_DOCUMENTS = 100  # in a shard: below this, random next segments repeat
SAMPLE_PART = 4_000_000  # bytes of text that words are counted in at once
_UNFINISHED = ".unfinished"  # what a killed preparation goes on from; gone at the end
_DEALT = "dealt.json"
_TOKENIZER = "tokenizer.json"


class ShardJob(NamedTuple):
    """What a worker is told. All but `shard` is the same for all of a split."""

    config: PrepareConfig
    directory: Path
    split: str
    shards: int
    shard: int

    @property
    def path(self) -> Path:
        return dataset.shard_path(self.directory, self.split, self.shard, self.shards)

    @property
    def record(self) -> Path:
        """Where a worker leaves what it counted, once the shard is whole."""
        return self.directory / _UNFINISHED / f"{self.split}-{self.shard}-of-{self.shards}.json"


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
        shutil.rmtree(directory / _UNFINISHED, ignore_errors=True)  # left by a late kill
        return manifest
    started = time.monotonic()
    try:
        manifest = _prepare(config, directory)
    except InputError:
        _clear(directory)
        raise
    wd.write_json(directory / dataset.MANIFEST, manifest)
    shutil.rmtree(directory / _UNFINISHED)
    report(manifest)
    print(f"prepared in {time.monotonic() - started:.0f} s")
    return manifest


def _prepare(config: PrepareConfig, directory: Path) -> dict[str, Any]:
    dealt = _deal(config, directory)
    with _workers(config) as over:
        tokenizer = _make_tokenizer(config, directory, dealt, over)
        jobs = plan_shards(config, directory, dealt)
        todo = [job for job in jobs if not job.record.exists()]
        progress = tqdm(
            over(_write_shard, todo),
            desc="write shards",
            initial=len(jobs) - len(todo),
            total=len(jobs),
            unit=" shards",
        )
        for _ in progress:
            pass
    records = [json.loads(job.record.read_text("utf-8")) for job in jobs]
    jobs, records = _drop_empty_splits(jobs, records)
    token_counts = np.zeros(tokenizer.vocab_size, np.int64)
    for job in jobs:
        if job.split == dataset.TRAIN:
            token_counts += np.load(job.record.with_suffix(".npy"))
    np.save(directory / TOKEN_COUNTS, token_counts)
    splits: dict[str, list[tuple[int, int]]] = {}
    for job, record in zip(jobs, records, strict=True):
        shard = (record["counts"]["rows"], record["record_bytes"])
        splits.setdefault(job.split, []).append(shard)
    dataset.write_metadata(directory, splits)
    counts = {
        split: Counts.total(
            Counts(**record["counts"])
            for job, record in zip(jobs, records, strict=True)
            if job.split == split
        )
        for split in splits
    }
    shards = {job.path.name: record["file"] for job, record in zip(jobs, records, strict=True)}
    return make_manifest(config, directory, dealt.sources, tokenizer, counts, shards)


def make_manifest(
    config: PrepareConfig,
    directory: Path,
    sources: list[dict[str, Any]],
    tokenizer: Tokenizer,
    counts: dict[str, Counts],
    shards: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Where the rows come from, how they were made, and what they are."""
    return {
        "sources": sources,
        "splits": {
            split: total._asdict()
            | {"shards": sum(name.startswith(f"{dataset.NAME}-{split}.") for name in shards)}
            for split, total in counts.items()
        },
        "objective": config.instances.objective,
        "length": config.instances.length,
        "max_instances": max(total.most_instances for total in counts.values()),
        "vocab_size": tokenizer.vocab_size,
        "tokenizer": tokenizer.fingerprint,
        "shards": shards,
        # Without what the result does not depend on.
        "config": {k: v for k, v in wd.read_config(directory).items() if k != "workers"},
    }


def report(manifest: dict[str, Any]) -> None:
    """Prints what a manifest counts, a line a split."""
    for split, total in manifest["splits"].items():
        filled = total["row_tokens"] / (total["rows"] * manifest["length"])
        labels = f" ({total['not_following'] / max(total['labelled'], 1):.1%} not following)"
        print(
            f"{split}: {total['documents']:,} documents, {total['sentences']:,} sentences,"
            f" {total['tokens']:,} tokens"
            f" ({total['unknown'] / max(total['tokens'], 1):.2%} unknown),"
            f" {total['instances']:,} instances{labels if total['labelled'] else ''}"
            f" in {total['rows']:,} rows of {manifest['length']}, {filled:.1%} filled"
        )
    train = manifest["splits"][dataset.TRAIN]
    if manifest["objective"] == "mlm+nsp" and train["documents"] < FEW_DOCUMENTS * train["shards"]:
        print(
            f"note: a shard holds {train['documents'] / train['shards']:.0f} documents, and a"
            " random next segment comes from its own shard: lower config.shards."
        )


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


def _clear(directory: Path) -> None:
    """Takes away what an unfinished preparation has left."""
    # First of all what says that the documents are whole.
    (directory / _UNFINISHED / _DEALT).unlink(missing_ok=True)
    for name in (_UNFINISHED, wd.TOKENIZER):
        shutil.rmtree(directory / name, ignore_errors=True)
    for pattern in (f"{dataset.NAME}-*", f".partial-{dataset.NAME}-*"):
        for path in directory.glob(pattern):
            path.unlink()


def _deal(config: PrepareConfig, directory: Path) -> buckets.Dealt:
    """The documents in buckets: those of a killed run with this config, or new ones."""
    unfinished = directory / _UNFINISHED
    made_with = {k: v for k, v in wd.read_config(directory).items() if k != "workers"}
    if (unfinished / _DEALT).exists():
        saved = json.loads((unfinished / _DEALT).read_text("utf-8"))
        dealt = buckets.Dealt(**saved["dealt"])
        now = [describe_source(source) for source in config.sources]
        if (
            saved["config"] == made_with
            and [
                source | {"documents": found["documents"]}
                for source, found in zip(now, dealt.sources, strict=True)
            ]
            == dealt.sources
        ):
            print(f"going on with the documents in {unfinished}")
            return dealt
    _clear(directory)
    unfinished.mkdir()
    dealt = buckets.deal(config, unfinished)
    if not dealt.bytes.get(dataset.TRAIN):
        raise InputError(
            "config.sources hold no training document: add text,"
            f" or lower config.heldout_fraction={config.heldout_fraction}."
        )
    wd.write_json(unfinished / _DEALT, {"config": made_with, "dealt": dealt._asdict()})
    return dealt


@contextlib.contextmanager
def _workers(config: PrepareConfig) -> Iterator[Callable[[Callable, Sequence], Iterable]]:
    """`map`, in order, over as many processes as asked for."""
    workers = config.workers or os.cpu_count() or 1
    if workers == 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, initializer=_end_with_parent) as pool:
        yield pool.imap


def _end_with_parent() -> None:
    """A worker that outlived a killed preparation would write among the files of the next."""

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _make_tokenizer(
    config: PrepareConfig,
    directory: Path,
    dealt: buckets.Dealt,
    over: Callable[[Callable, Sequence], Iterable],
) -> Tokenizer:
    """The vocabulary that is given, or one trained on a sample of the training documents."""
    saved, record = directory / wd.TOKENIZER, directory / _UNFINISHED / _TOKENIZER
    if record.exists():
        return tokenizers.load(saved)
    if config.tokenizer.path:
        tokenizer = tokenizers.load(config.tokenizer.path, config.tokenizer)
    else:
        parts = math.ceil(dealt.bytes[dataset.TRAIN] / SAMPLE_PART)
        sample = range(min(parts, max(config.tokenizer.train_megabytes * 10**6 // SAMPLE_PART, 1)))
        unfinished = directory / _UNFINISHED
        if config.tokenizer.kind == "wordpiece":
            count = functools.partial(_count_words, config, unfinished, parts)
            words: Counter[str] = Counter()
            for counted in tqdm(over(count, sample), desc="count words", total=len(sample)):
                words.update(counted)
            tokenizer = wordpiece.train_on_words(config.tokenizer, words)
        else:
            texts = (text for part in sample for text in _sample_texts(unfinished, parts, part))
            tokenizer = tokenizers.train(config.tokenizer, texts)
    shutil.rmtree(saved, ignore_errors=True)  # a kill leaves files under temporary names
    tokenizer.save(saved)
    wd.write_json(record, tokenizer.fingerprint)
    return tokenizer


def _sample_texts(unfinished: Path, parts: int, part: int) -> Iterator[str]:
    for document in buckets.read_shard(unfinished, dataset.TRAIN, part, parts):
        yield document.text


def _count_words(config: PrepareConfig, unfinished: Path, parts: int, part: int) -> Counter[str]:
    return wordpiece.count_words(config.tokenizer, _sample_texts(unfinished, parts, part))


def plan_shards(config: PrepareConfig, directory: Path, dealt: buckets.Dealt) -> list[ShardJob]:
    """As many shards as asked for, or more where they would grow too large."""
    jobs = []
    for split, size in sorted(dealt.bytes_of_passes.items(), reverse=True):
        least = config.shards if split == dataset.TRAIN else 1
        shards = max(least, math.ceil(size / (config.shard_megabytes * 10**6)))
        jobs += [ShardJob(config, directory, split, shards, shard) for shard in range(shards)]
    return jobs


def _write_shard(job: ShardJob) -> None:
    """Writes a shard and then, as the sign that it is whole, what was counted."""
    tokenizer = _load_tokenizer(job.directory / wd.TOKENIZER)
    documents = buckets.read_shard(job.directory / _UNFINISHED, job.split, job.shard, job.shards)
    made = make_shard(documents, job.split, job.shard, job.config, tokenizer)
    record_bytes = dataset.write_shard(job.path, made.rows)
    np.save(job.record.with_suffix(".npy"), made.pieces)
    wd.write_json(
        job.record,
        {
            "counts": made.counts._asdict(),
            "record_bytes": record_bytes,
            "file": checksum(job.path),
        },
    )


@functools.lru_cache(maxsize=1)
def _load_tokenizer(directory: Path) -> Tokenizer:
    return tokenizers.load(directory)


def _drop_empty_splits(
    jobs: list[ShardJob], records: list[dict[str, Any]]
) -> tuple[list[ShardJob], list[dict[str, Any]]]:
    """Without the held-out split where it has no row; raises InputError without training rows."""
    rows: Counter[str] = Counter()
    for job, record in zip(jobs, records, strict=True):
        rows[job.split] += record["counts"]["rows"]
    if not rows[dataset.TRAIN]:
        raise InputError(
            "config.sources hold no sentence for training: every document is blank or made of"
            " control characters."
        )
    kept = [pair for pair in zip(jobs, records, strict=True) if rows[pair[0].split]]
    for job in jobs:
        if not rows[job.split]:
            job.path.unlink(missing_ok=True)
    return [job for job, _ in kept], [record for _, record in kept]
