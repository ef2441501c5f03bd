"""Text to a dataset: the same bytes always, true counts, nothing held out leaks."""

import collections
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from integration import corpus

from bert_jax.data import prepare
from bert_jax.errors import InputError
from bert_jax.text import tokenizer as tokenizers

ROOT = Path(__file__).parents[2]
NUMBER = re.compile(r"第(\d+)篇")


def rows_of(directory, split):
    source = tfds.builder_from_directory(directory).as_data_source(split)
    return [source[index] for index in range(len(source))]


def instances_of(directory, split):
    """(A, B) of every instance as text."""
    tokenizer = tokenizers.load(directory / "tokenizer")
    found = []
    for row in rows_of(directory, split):
        ends = np.cumsum(row["lengths"])
        for end, length, a_length in zip(ends, row["lengths"], row["a_lengths"], strict=True):
            ids = row["ids"][end - length : end].tolist()
            special = tokenizer.special
            assert (ids[0], ids[a_length - 1], ids[-1]) == (special.cls, special.sep, special.sep)
            a, b = ids[1 : a_length - 1], ids[a_length:-1]
            found.append((tokenizer.decode(a), tokenizer.decode(b)))
    return found


def contents(directory):
    """The bytes of every file, without the config, which names its number of workers."""
    files = {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != "config.json"
    }
    manifest = json.loads(files.pop("manifest.json"))
    return files, manifest


IN_A_PROCESS = """
import json, sys
from bert_jax.data import prepare
from bert_jax.errors import InputError
prepare.run(json.loads(sys.argv[1]), sys.argv[2])
"""


def test_the_same_bytes_in_any_process_with_any_number_of_workers(documents_path, data, tmp_path):
    config = corpus.prepare_config(documents_path)
    config.workers = 2
    subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS, config.to_json(), tmp_path], cwd=ROOT, check=True
    )
    (files, manifest), (wanted_files, wanted_manifest) = contents(tmp_path), contents(data)
    assert set(files) == {
        *("dataset_info.json", "features.json", "token_counts.npy"),
        *("tokenizer/vocab.txt", "tokenizer/tokenizer_config.json"),
        "pretraining_rows-heldout.array_record-00000-of-00001",
        "pretraining_rows-train.array_record-00000-of-00002",
        "pretraining_rows-train.array_record-00001-of-00002",
    }
    assert {name for name in files if files[name] != wanted_files[name]} == set()
    assert files.keys() == wanted_files.keys()
    assert manifest == wanted_manifest


def test_the_order_of_the_documents_does_not_matter(documents_path, data, tmp_path):
    path = corpus.write_documents(tmp_path / "reversed.txt", corpus.documents()[::-1])
    prepare.run(corpus.prepare_config(path), tmp_path / "data")
    files, _ = contents(tmp_path / "data")
    assert files == contents(data)[0]


def test_the_seed_changes_the_rows_and_not_the_vocabulary(documents_path, data, tmp_path):
    config = corpus.prepare_config(documents_path)
    config.seed = 1
    prepare.run(config, tmp_path)
    files, wanted = contents(tmp_path)[0], contents(data)[0]
    assert files["tokenizer/vocab.txt"] == wanted["tokenizer/vocab.txt"]
    shard = "pretraining_rows-train.array_record-00000-of-00002"
    assert files[shard] != wanted[shard]


def test_the_manifest_counts_what_is_there(data):
    manifest = json.loads((data / "manifest.json").read_text("utf-8"))
    tokenizer = tokenizers.load(data / "tokenizer")
    assert manifest["vocab_size"] == tokenizer.vocab_size
    assert manifest["tokenizer"] == tokenizer.fingerprint
    assert set(manifest["splits"]) == {"train", "heldout"}
    most = 0
    for split, totals in manifest["splits"].items():
        rows = rows_of(data, split)
        lengths = np.concatenate([row["lengths"] for row in rows])
        assert totals["rows"] == len(rows) > 0
        assert totals["instances"] == len(lengths)
        assert totals["row_tokens"] == sum(len(row["ids"]) for row in rows) == lengths.sum()
        assert totals["not_following"] == sum((row["next_labels"] == 1).sum() for row in rows)
        assert totals["labelled"] == totals["instances"]
        assert max(len(row["ids"]) for row in rows) <= manifest["length"] == 32
        most = max(most, *(len(row["lengths"]) for row in rows))
    assert manifest["max_instances"] == most > 1
    texts = corpus.documents()
    splits = manifest["splits"].values()
    assert sum(totals["documents"] for totals in splits) == len(texts)
    assert manifest["sources"][0]["documents"] == len(texts)
    assert sum(totals["characters"] for totals in splits) == sum(
        len(text.replace("\n", "")) for text in texts
    )
    counts = np.load(data / "token_counts.npy")
    assert counts.sum() == manifest["splits"]["train"]["tokens"]
    assert counts[tokenizer.special.unk] == manifest["splits"]["train"]["unknown"]


def test_no_held_out_document_in_the_training_shards(data):
    """Every document opens with its number, which pairs of both kinds keep."""

    def numbers(split):
        return {n for pair in instances_of(data, split) for n in NUMBER.findall(" ".join(pair))}

    train, heldout = numbers("train"), numbers("heldout")
    assert len(heldout) > 5
    assert len(train) > 80
    assert not train & heldout


@pytest.fixture(scope="module")
def doubled(tmp_path_factory):
    """Two sources, the second gone through three times and holding duplicates.

    Rows are long enough for every pair, so that no opening is cut off.
    """
    directory = tmp_path_factory.mktemp("doubled")
    texts = corpus.documents(60)
    once = corpus.write_documents(directory / "once.txt", texts[:40])
    thrice = corpus.write_documents(directory / "thrice.txt", texts[40:] * 2 + texts[:5])
    config = corpus.prepare_config(once, thrice)
    config.instances.update(passes=(1, 3), length=512, short_probability=0.0)
    manifest = prepare.run(config, directory / "data")
    return directory / "data", manifest


def test_duplicates_are_dropped(doubled):
    _, manifest = doubled
    assert [source["documents"] for source in manifest["sources"]] == [40, 45]
    assert sum(totals["documents"] for totals in manifest["splits"].values()) == 60


def test_each_source_has_its_passes_and_held_out_rows_one(doubled):
    # Each pass over a document begins with an instance whose A is its opening.
    directory, _ = doubled
    openings = {
        split: collections.Counter(
            int(found[1]) for a, _ in instances_of(directory, split) if (found := NUMBER.match(a))
        )
        for split in ("train", "heldout")
    }
    assert openings["train"].keys() | openings["heldout"].keys() == set(range(60))
    assert set(openings["heldout"].values()) == {1}
    # The first five stand in both sources and belong to the first.
    assert {n: c for n, c in openings["train"].items() if c != (1 if n < 40 else 3)} == {}


def test_a_finished_preparation_is_reused(tmp_path):
    path = corpus.write_documents(tmp_path / "a.txt", corpus.documents(30))
    config = corpus.prepare_config(path)
    config.shards = 1
    first = prepare.run(config, tmp_path / "data")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "data").glob("*array_record*")}
    path.unlink()
    config.workers = 2  # may differ
    assert prepare.run(config, tmp_path / "data") == first
    assert before
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_a_source_that_changed_is_not_taken_for_the_old_one(tmp_path):
    path = corpus.write_documents(tmp_path / "a.txt", corpus.documents(30))
    config = corpus.prepare_config(path)
    config.shards = 1
    prepare.run(config, tmp_path / "data")
    corpus.write_documents(path, corpus.documents(31))
    with pytest.raises(InputError, match=r"a\.txt has changed since"):
        prepare.run(config, tmp_path / "data")
