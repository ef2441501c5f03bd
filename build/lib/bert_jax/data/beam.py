"""The preparation on Apache Beam through TFDS: the records of the local one, on many machines.

The sources are read twice: for their sizes and the words of the vocabulary, and for the
rows. The shards of `buckets` are groups here; which file a row stands in, and where, TFDS
decides by a hash of its key. Workers see the sources and the workdir under the paths that
are given here.
"""

import collections
import contextlib
import io
import itertools
import os
import pickle
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import apache_beam as beam
import tensorflow_datasets as tfds
from apache_beam.options.pipeline_options import PipelineOptions, TypeOptions
from tensorflow_datasets.core import writer
from tensorflow_datasets.proto import tf_example_pb2

from bert_jax.config import PrepareConfig
from bert_jax.data import buckets, dataset
from bert_jax.data.buckets import Document, Sizes
from bert_jax.data.prepare import (
    UNFINISHED,
    ShardJob,
    clear,
    count_splits,
    make_manifest,
    make_tokenizer,
    plan_shards,
    sample_parts,
)
from bert_jax.errors import InputError
from bert_jax.text import documents, wordpiece
from bert_jax.text.files import checksum

Place = tuple[str, int]  # of a paragraph: digest of its document, line
Key = int | tuple[str, int]  # of a group: part of the sample, or split and shard


def prepare(
    opened: tuple[beam.Pipeline, PipelineOptions], config: PrepareConfig, directory: Path
) -> dict[str, Any]:
    """What `bert_jax.data.prepare` does between opening the workdir and writing the manifest.

    A run that was killed starts anew. Raises InputError as the local one does.
    """
    pipeline, parsed = opened
    clear(directory)
    unfinished = directory / UNFINISHED
    unfinished.mkdir()
    described = buckets.describe(config)
    with _input_errors():
        _survey(pipeline, config, unfinished)
    dealt = buckets.add_up(_load(unfinished / "sizes"), described, config)
    texts = itertools.chain.from_iterable(map(_load, sorted(unfinished.glob("texts-*"))))
    tokenizer = make_tokenizer(config, directory, lambda: _load(unfinished / "words"), texts)
    jobs = plan_shards(config, directory, dealt)
    builder = _Rows(config, unfinished, jobs)
    with _input_errors():
        builder.download_and_prepare(
            file_format="array_record",
            download_config=tfds.download.DownloadConfig(beam_options=parsed),
        )
    buckets.check_unchanged(described, config)
    # A shard that no document fell into has no record.
    counts = count_splits(directory, [job for job in jobs if job.record.exists()])
    for path in sorted(Path(builder.data_dir).iterdir()):
        os.replace(path, directory / path.name)
    files = {path.name: checksum(path) for path in sorted(directory.glob(f"{dataset.NAME}-*"))}
    return make_manifest(config, directory, dealt, tokenizer, counts, jobs, files)


def _survey(pipeline: beam.Pipeline, config: PrepareConfig, unfinished: Path) -> None:
    """Runs; leaves the sizes and, where a vocabulary is trained, its words or texts."""
    with pipeline:
        found = _read(pipeline, config)
        sizes = (
            found
            | "measure" >> beam.Map(buckets.measure, config)
            | "add sizes" >> beam.CombineGlobally(_Sum())
        )
        _ = sizes | "keep sizes" >> beam.Map(_save, unfinished / "sizes")
        if config.tokenizer.path:
            return
        sample = _group(found, config, _sample_part, beam.pvalue.AsSingleton(sizes))
        if config.tokenizer.kind == "wordpiece":
            _ = (
                sample
                | "count words" >> beam.Map(_count_words, config)
                | "add words" >> beam.CombineGlobally(_Sum())
                | "keep words" >> beam.Map(_save, unfinished / "words")
            )
        else:
            _ = sample | "keep texts" >> beam.Map(_save_texts, unfinished)


class _Rows(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The rows as TFDS builds a dataset."""

    name = dataset.NAME
    VERSION = tfds.core.Version(dataset.VERSION)

    def __init__(self, config: PrepareConfig, data_dir: Path, jobs: list[ShardJob]):
        self._config = config
        self._jobs = {(job.split, job.shard): job for job in jobs}
        super().__init__(data_dir=data_dir)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self, description=dataset.DESCRIPTION, features=dataset.features()
        )

    def _split_generators(self, _: Any, pipeline: beam.Pipeline) -> dict[str, beam.PCollection]:
        shards = {job.split: job.shards for job in self._jobs.values()}
        groups = _group(_read(pipeline, self._config), self._config, _shard, shards)
        rows = groups | "rows" >> beam.FlatMap(_rows, self._jobs).with_outputs(*shards)
        return {split: rows[split] for split in shards}

    def _generate_examples(self) -> None:
        """TFDS wants it; the examples come from `_split_generators`."""

    def _example_writer(self) -> writer.ExampleWriter:
        return _Writer(self.info.file_format)


class _Writer(writer.ExampleWriter):
    """Writes the fields of a record in the order of `dataset.write_shard`."""

    def write(self, path: Any, examples: Iterable[tuple[Any, bytes]]) -> Any:
        read = tf_example_pb2.Example.FromString
        ordered = ((key, read(one).SerializeToString(deterministic=True)) for key, one in examples)
        return super().write(path, ordered)


class _Sum(beam.CombineFn):
    """Adds up Counters."""

    def create_accumulator(self) -> Counter:
        return Counter()

    def add_input(self, total: Counter, counted: Counter) -> Counter:
        total.update(counted)
        return total

    def merge_accumulators(self, totals: Iterable[Counter]) -> Counter:
        return reduce(self.add_input, totals, Counter())

    def extract_output(self, total: Counter) -> Counter:
        return total


def _read(pipeline: beam.Pipeline, config: PrepareConfig) -> beam.PCollection:
    """The documents of all sources, each part of a source read by itself."""
    parts = []
    for index, source in enumerate(config.sources):
        # The first documents of a source are told from the others by reading it in order.
        apart = [source] if config.max_documents else documents.parts(source)
        parts += [(index, part) for part in apart]
    return (
        pipeline
        | "parts" >> beam.Create(parts)
        | "spread" >> beam.Reshuffle()
        | "read" >> beam.FlatMap(_documents, config)
    )


def _documents(item: tuple[int, str], config: PrepareConfig) -> Iterator[Document]:
    index, part = item
    found = documents.read_part(part, text_field=config.text_field)
    return buckets.hashed((text for text, _ in found), index, config)


def _group(
    found: beam.PCollection, config: PrepareConfig, key: Callable[..., Key | None], argument: Any
) -> beam.PCollection:
    """(key, documents), as `buckets.read_shard` would give them.

    `key(digest, config, argument)` is None for a document that is left out.
    """
    found = found | "with text" >> beam.Filter(lambda document: document.text)
    tagged = {"documents": found | "key" >> beam.FlatMap(_keyed, key, config, argument)}
    if config.drop_duplicate_paragraphs:
        tagged["repeated"] = (
            found
            | "paragraphs" >> beam.FlatMap(_paragraphs)
            | "equal paragraphs" >> beam.GroupByKey()
            | "all but one" >> beam.FlatMap(_all_but_one)
            | "key of repeated" >> beam.FlatMap(_keyed, key, config, argument)
        )
    return tagged | "group" >> beam.CoGroupByKey() | "distinct" >> beam.Map(_distinct)


def _keyed(
    item: tuple, key: Callable[..., Key | None], config: PrepareConfig, argument: Any
) -> Iterator[tuple[Key, tuple]]:
    """With the key of the digest that the item begins with."""
    found = key(item[0], config, argument)
    if found is not None:
        yield found, item


def _shard(digest: str, config: PrepareConfig, shards: dict[str, int]) -> Key:
    split = buckets.split_of(digest, config)
    return split, buckets.place(digest, shards[split])


def _sample_part(digest: str, config: PrepareConfig, sizes: Sizes) -> Key | None:
    used, parts = sample_parts(config, sizes["bytes", dataset.TRAIN])
    part = buckets.place(digest, parts)
    is_used = part < used and buckets.split_of(digest, config) == dataset.TRAIN
    return part if is_used else None


def _paragraphs(document: Document) -> Iterator[tuple[bytes, Place]]:
    for line, paragraph in buckets.paragraphs(document):
        yield paragraph, (document.digest, line)


def _all_but_one(group: tuple[bytes, Iterable[Place]]) -> Iterator[Place]:
    _, places = group
    kept = min(places)
    return (place for place in places if place != kept)


def _distinct(group: tuple[Key, dict[str, Iterable]]) -> tuple[Key, list[Document]]:
    key, tagged = group
    dropped = collections.defaultdict(set)
    for digest, line in tagged.get("repeated", ()):
        dropped[digest].add(line)
    found = buckets.distinct(tagged["documents"])
    return key, [buckets.without_lines(document, dropped[document.digest]) for document in found]


def _count_words(group: tuple[Key, list[Document]], config: PrepareConfig) -> Counter[str]:
    _, found = group
    return wordpiece.count_words(config.tokenizer, (document.text for document in found))


def _save_texts(group: tuple[Key, list[Document]], unfinished: Path) -> None:
    part, found = group
    _save([document.text for document in found], unfinished / f"texts-{part:05d}")


def _rows(group: tuple[Key, list[Document]], jobs: dict[Key, ShardJob]) -> Iterator[Any]:
    """Each row, with a key of its own, to the output of its split."""
    key, found = group
    job = jobs[key]
    made = job.make(found)
    job.write_record(made)
    for number, row in enumerate(made.rows):
        yield beam.pvalue.TaggedOutput(job.split, (f"{job.shard}-{number}", row._asdict()))


def _save(value: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(value))


def _load(path: Path) -> Any:
    return pickle.loads(path.read_bytes())


def open_pipeline(options: str) -> tuple[beam.Pipeline, PipelineOptions]:
    """Raises InputError for a wrong value; a name unknown to Beam may be the runner's own."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed = PipelineOptions(shlex.split(options))
            parsed.get_all_options(retain_unknown_options=True)  # parses those of every runner
            parsed.view_as(TypeOptions).pipeline_type_check = False  # as TFDS does
            return beam.Pipeline(options=parsed), parsed
    except (ValueError, SystemExit) as error:  # argparse prints, and exits
        message = said.getvalue().rpartition("error: ")[2] or str(error)
        raise InputError(
            f"--beam_options={options} cannot be used: {' '.join(message.split())}"
        ) from error


@contextlib.contextmanager
def _input_errors() -> Iterator[None]:
    """Raises InputErrors of workers as they were before Beam put them into its own words, and
    one where TFDS has no row to write."""
    try:
        yield
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        if found := re.search(r"InputError: (.*?)(?: \[while running .*)?$", said, re.MULTILINE):
            raise InputError(found[1]) from error
        if found := re.search(r"generated examples is 0 for split (\w+)", said):
            raise InputError(
                f"config.sources hold no sentence for {found[1]}: add text, or change"
                " config.heldout_fraction."
            ) from error
        raise
