"""Documents to a dataset of rows: vocabulary, instances, shards, manifest.

Killed at any moment and started again, a preparation goes on: with the documents it has
dealt, the vocabulary it has trained and the shards it has written. The result is the
same, to the byte, whatever happened and however many workers there were.
"""

import functools
import json
import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from bert_jax import workdir as wd
from bert_jax.config import PrepareConfig
from bert_jax.data import buckets, dataset
from bert_jax.data.pitfalls import pitfalls
from bert_jax.data.shards import Counts, Shard, make_shard
from bert_jax.data.workers import WorkerLost, map_over
from bert_jax.errors import InputError
from bert_jax.fields import Values, build
from bert_jax.text import tokenizer as tokenizers
from bert_jax.text import wordpiece
from bert_jax.text.documents import describe_source
from bert_jax.text.files import checksum
from bert_jax.text.tokenizer import Tokenizer

SAMPLE_PART = 4_000_000  # bytes of text that words are counted in at once
UNFINISHED = ".unfinished"  # what a killed preparation goes on from; gone at the end
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
        return self.directory / UNFINISHED / f"{self.split}-{self.shard}-of-{self.shards}.json"

    def make(self, documents: Sequence[buckets.Document]) -> Shard:
        tokenizer = _load_tokenizer(self.directory / wd.TOKENIZER)
        return make_shard(documents, self.split, self.shard, self.config, tokenizer)

    def write_record(self, made: Shard, **more: Any) -> None:
        np.save(self.record.with_suffix(".npy"), made.pieces)
        wd.write_json(self.record, {"counts": made.counts._asdict(), **more})

    def read_record(self) -> dict[str, Any]:
        return json.loads(self.record.read_text("utf-8"))


def run(config: Values, workdir: str | Path, beam_options: str | None = None) -> dict[str, Any]:
    """Prepares `config.sources` (fields: PrepareConfig) in `workdir`; returns the manifest.

    On this machine, where a script that calls this with several workers needs the guard
    `if __name__ == "__main__":`, or with `beam_options` on Apache Beam, as in
    "--runner=FnApiRunner".
    A finished preparation with the same config is returned as it is.
    """
    config = build(PrepareConfig, config)
    _check_workdir(config, Path(workdir))
    with wd.locked(workdir) as directory:
        return _run(config, directory, beam_options)


def _run(config: PrepareConfig, directory: Path, beam_options: str | None) -> dict[str, Any]:
    is_done = (directory / dataset.MANIFEST).exists()
    wd.check_config(directory, config, is_begun=is_done, may_change=("workers",))
    wd.write_config(directory, config)
    if is_done:
        manifest = dataset.read_manifest(directory)
        dataset.check_shards(directory, manifest)
        _check_sources(manifest, directory)
        shutil.rmtree(directory / UNFINISHED, ignore_errors=True)  # left by a late kill
        return manifest
    started = time.monotonic()
    # Before the part whose refusal takes away what there is.
    if beam_options is None:
        make = functools.partial(_prepare, begun=_read_dealt(config, directory))
    else:
        make = _on_beam(beam_options)
    try:
        manifest = make(config, directory)
    except WorkerLost:
        raise
    except InputError:
        clear(directory)
        raise
    wd.write_json(directory / dataset.MANIFEST, manifest)
    shutil.rmtree(directory / UNFINISHED)
    report(manifest)
    tokenizer = dataset.load_tokenizer(directory, manifest)
    for warning in pitfalls(manifest, dataset.read_token_counts(directory), tokenizer):
        print(f"warning: {warning}")
    print(f"prepared in {time.monotonic() - started:.0f} s")
    return manifest


def _prepare(config: PrepareConfig, directory: Path, begun: buckets.Dealt | None) -> dict[str, Any]:
    dealt = begun or _deal(config, directory)
    with map_over(config.workers) as over:
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
    counts = count_splits(directory, jobs)
    for job in jobs:
        if job.split not in counts:
            job.path.unlink(missing_ok=True)
    jobs = [job for job in jobs if job.split in counts]
    records = [job.read_record() for job in jobs]
    splits: dict[str, list[tuple[int, int]]] = {}
    for job, record in zip(jobs, records, strict=True):
        shard = (record["counts"]["rows"], record["record_bytes"])
        splits.setdefault(job.split, []).append(shard)
    dataset.write_metadata(directory, splits)
    files = {job.path.name: record["file"] for job, record in zip(jobs, records, strict=True)}
    return make_manifest(config, directory, dealt, tokenizer, counts, jobs, files)


def _on_beam(options: str) -> Callable[[PrepareConfig, Path], dict[str, Any]]:
    try:
        from bert_jax.data import beam  # seconds to import, and an extra
    except ImportError as error:
        raise InputError("--beam_options needs Apache Beam: pip install apache-beam.") from error
    return functools.partial(beam.prepare, beam.open_pipeline(options))


def count_splits(directory: Path, jobs: Sequence[ShardJob]) -> dict[str, Counts]:
    """What the shards of each split hold, as their records say; writes the token counts.

    Without the held-out split where it has no row. Raises InputError without training rows.
    """
    counts = {
        split: Counts.total(
            Counts(**job.read_record()["counts"]) for job in jobs if job.split == split
        )
        for split in dict.fromkeys(job.split for job in jobs)
    }
    if not counts[dataset.TRAIN].rows:
        raise InputError(
            "config.sources hold no sentence for training: every document is blank or made of"
            " control characters."
        )
    train = [job for job in jobs if job.split == dataset.TRAIN]
    pieces = sum(np.load(job.record.with_suffix(".npy")) for job in train)
    np.save(directory / dataset.TOKEN_COUNTS, pieces)
    return {split: total for split, total in counts.items() if total.rows}


def make_manifest(
    config: PrepareConfig,
    directory: Path,
    dealt: buckets.Dealt,
    tokenizer: Tokenizer,
    counts: dict[str, Counts],
    jobs: Sequence[ShardJob],
    files: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Where the rows come from, how they were made, and what they are."""
    return {
        "version": dataset.VERSION,
        "sources": dealt.sources,
        "text_bytes": sum(dealt.bytes.values()),
        "splits": {
            split: total._asdict() | {"shards": sum(job.split == split for job in jobs)}
            for split, total in counts.items()
        },
        "objective": config.instances.objective,
        "length": config.instances.length,
        "max_instances": max(total.most_instances for total in counts.values()),
        "vocab_size": tokenizer.vocab_size,
        "tokenizer": tokenizer.fingerprint,
        "shards": files,
        "config": _made_with(directory),
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


def _check_workdir(config: PrepareConfig, directory: Path) -> None:
    """Raises InputError where preparing would take away what something else has made."""
    if (directory / "checkpoints").exists():
        raise InputError(f"--workdir={directory} holds a training run: choose another directory.")
    path = config.tokenizer.path
    if path and Path(path).resolve().is_relative_to(directory.resolve()):
        raise InputError(
            f"config.tokenizer.path={path} lies in --workdir={directory}, where the dataset's own"
            " tokenizer goes: choose another --workdir."
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


def clear(directory: Path) -> None:
    """Takes away what an unfinished preparation has left."""
    # First of all what says that the documents are whole.
    (directory / UNFINISHED / _DEALT).unlink(missing_ok=True)
    for name in (UNFINISHED, wd.TOKENIZER):
        shutil.rmtree(directory / name, ignore_errors=True)
    for pattern in (f"{dataset.NAME}-*", f".partial-{dataset.NAME}-*"):
        for path in directory.glob(pattern):
            path.unlink()


def _read_dealt(config: PrepareConfig, directory: Path) -> buckets.Dealt | None:
    """What a killed run with this config has dealt, where the sources are as they were.

    Raises InputError, and leaves everything, where a source cannot be reached now.
    """
    path = directory / UNFINISHED / _DEALT
    if not path.exists():
        return None
    saved = json.loads(path.read_text("utf-8"))
    if saved["config"] != _made_with(directory):
        return None
    if buckets.describe(config) != saved["described"]:
        return None
    print(f"going on with the documents in {path.parent}")
    return buckets.Dealt(**saved["dealt"])


def _deal(config: PrepareConfig, directory: Path) -> buckets.Dealt:
    """The documents in new buckets."""
    clear(directory)
    unfinished = directory / UNFINISHED
    unfinished.mkdir()
    described = buckets.describe(config)
    dealt = buckets.deal(config, unfinished, described)
    saved = {"config": _made_with(directory), "described": described, "dealt": dealt._asdict()}
    wd.write_json(unfinished / _DEALT, saved)
    return dealt


def _made_with(directory: Path) -> dict[str, Any]:
    """The config, without what the result does not depend on."""
    return {k: v for k, v in wd.read_config(directory).items() if k != "workers"}


def _make_tokenizer(
    config: PrepareConfig,
    directory: Path,
    dealt: buckets.Dealt,
    over: Callable[[Callable, Sequence], Iterable],
) -> Tokenizer:
    """That of a killed run, or a new one."""
    saved, unfinished = directory / wd.TOKENIZER, directory / UNFINISHED
    if (unfinished / _TOKENIZER).exists():
        return tokenizers.load(saved)
    used, parts = sample_parts(config, dealt.bytes[dataset.TRAIN])

    def words() -> Counter[str]:
        found: Counter[str] = Counter()
        count = functools.partial(_count_words, config, unfinished, parts)
        for counted in tqdm(over(count, range(used)), desc="count words", total=used):
            found.update(counted)
        return found

    texts = (text for part in range(used) for text in _sample_texts(unfinished, parts, part))
    tokenizer = make_tokenizer(config, directory, words, texts)
    wd.write_json(unfinished / _TOKENIZER, tokenizer.fingerprint)
    return tokenizer


def sample_parts(config: PrepareConfig, train_bytes: int) -> tuple[int, int]:
    """How many parts of the training documents are sampled for the vocabulary, and of how many."""
    parts = math.ceil(train_bytes / SAMPLE_PART)
    return min(parts, max(config.tokenizer.train_megabytes * 10**6 // SAMPLE_PART, 1)), parts


def make_tokenizer(
    config: PrepareConfig, directory: Path, words: Callable[[], Counter[str]], texts: Iterable[str]
) -> Tokenizer:
    """The vocabulary that is given, or one trained on the words or texts of the sample."""
    if config.tokenizer.path:
        tokenizer = tokenizers.load(config.tokenizer.path, config.tokenizer)
    elif config.tokenizer.kind == "wordpiece":
        tokenizer = wordpiece.train_on_words(config.tokenizer, words())
    else:
        tokenizer = tokenizers.train(config.tokenizer, texts)
    # A kill leaves files under temporary names.
    shutil.rmtree(directory / wd.TOKENIZER, ignore_errors=True)
    tokenizer.save(directory / wd.TOKENIZER)
    _load_tokenizer.cache_clear()  # this process may have read another one there
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
    documents = buckets.read_shard(job.directory / UNFINISHED, job.split, job.shard, job.shards)
    made = job.make(documents)
    record_bytes = dataset.write_shard(job.path, made.rows)
    job.write_record(made, record_bytes=record_bytes, file=checksum(job.path))


@functools.lru_cache(maxsize=1)
def _load_tokenizer(directory: Path) -> Tokenizer:
    return tokenizers.load(directory)
