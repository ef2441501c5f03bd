"""On Beam as here: the same records, counts and vocabulary, whatever the options."""

import collections
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader
from integration import corpus

from bert_jax.data import dataset, prepare
from bert_jax.errors import InputError

pytest.importorskip("apache_beam", reason="apache-beam is not installed: pip install apache-beam")

from bert_jax.data import beam

ROOT = Path(__file__).parents[2]
# The runner within this process: DirectRunner may download another one first.
HERE = "--runner=FnApiRunner"


def records_of(directory, split):
    """Every record, as bytes, and how often it is there."""
    found = collections.Counter()
    for path in directory.glob(f"pretraining_rows-{split}.*"):
        reader = ArrayRecordReader(str(path))
        found.update(reader.read_all())
        reader.close()
    return found


def contents(directory):
    """What may not differ: records by split, token counts, the tokenizer's files, the manifest."""
    manifest = dataset.read_manifest(directory)
    files = manifest.pop("shards")
    return {
        "files": sorted(files) == sorted(p.name for p in directory.glob("pretraining_rows-*")),
        "rest": {p.name for p in directory.iterdir() if p.name not in files},
        "records": {split: records_of(directory, split) for split in manifest["splits"]},
        "token_counts": np.load(directory / "token_counts.npy").tolist(),
        "tokenizer": {p.name: p.read_bytes() for p in (directory / "tokenizer").iterdir()},
        "features": (directory / "features.json").read_bytes(),
        "manifest": manifest,
    }


@pytest.fixture
def config(tmp_path):
    """Two sources, of two files and of one, two and a half passes over the second; documents
    that are there twice, within a source and in both; a paragraph that is in all."""
    texts = [f"{text}\n到此为止。" for text in corpus.documents(90)]
    corpus.write_documents(tmp_path / "a1.txt", texts[:30] + texts[:3])
    corpus.write_documents(tmp_path / "a2.txt", texts[30:50])
    corpus.write_documents(tmp_path / "b.txt", texts[40:] + texts[80:])
    config = corpus.prepare_config(tmp_path / "a*.txt", tmp_path / "b.txt")
    config.instances.passes = (1, 2.5)
    config.shards = 3
    return config


VARIANTS = {
    "plain": {},
    "words of a part": {},
    "paragraphs": {"drop_duplicate_paragraphs": True},
    "first documents": {"max_documents": 35, "instances.objective": "mlm+sop"},
    "unigram": {"tokenizer.kind": "unigram", "tokenizer.vocab_size": 400},
    "nothing held out": {"heldout_fraction": 0.0, "instances.packing": False},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_records_are_the_local_ones(variant, config, tmp_path, monkeypatch):
    config.update_from_flattened_dict(VARIANTS[variant])
    dealt = []

    def plan_shards(config, directory, found):
        dealt.append(found)
        return plan(config, directory, found)

    plan = prepare.plan_shards
    for module in (prepare, beam):
        monkeypatch.setattr(module, "plan_shards", plan_shards)
        if variant == "words of a part":  # as of a text that is larger than the sample
            monkeypatch.setattr(module, "sample_parts", lambda config, size: (1, 3))
    prepare.run(config, tmp_path / "here")
    prepare.run(config, tmp_path / "beam", HERE)
    assert contents(tmp_path / "beam") == contents(tmp_path / "here")
    assert dealt[0] == dealt[1]


def test_two_processes_make_what_one_makes(config, tmp_path):
    local = prepare.run(config, tmp_path / "here")
    values = {
        "sources": config.sources,
        "heldout_fraction": config.heldout_fraction,
        "max_documents": 0,
        "tokenizer.vocab_size": config.tokenizer.vocab_size,
        "instances.length": config.instances.length,
        "instances.passes": config.instances.passes,
        "shards": 3,
    }
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bert_jax.prepare", "--config=configs/prepare_zh.py:tiny"),
            *(f"--config.{name}={value}" for name, value in values.items()),
            f"--workdir={tmp_path / 'beam'}",
            f"--beam_options={HERE} --direct_num_workers=2 --direct_running_mode=multi_processing",
        ],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    assert f"train: {local['splits']['train']['documents']} documents" in done.stdout
    made, wanted = contents(tmp_path / "beam"), contents(tmp_path / "here")
    assert made == wanted


def test_the_dataset_opens_as_the_local_one(config, tmp_path):
    (tmp_path / ".unfinished" / dataset.NAME / dataset.VERSION).mkdir(
        parents=True
    )  # of a killed run
    manifest = prepare.run(config, tmp_path, HERE)
    dataset.check_shards(tmp_path, manifest)
    source = dataset.RowSource(tmp_path, "train")
    rows = [source[index] for index in range(len(source))]
    assert sum(len(row.ids) for row in rows) == manifest["splits"]["train"]["row_tokens"] > 0
    info = json.loads((tmp_path / "dataset_info.json").read_text("utf-8"))
    assert (info["name"], info["version"]) == (dataset.NAME, dataset.VERSION)
    assert prepare.run(config, tmp_path) == manifest  # finished


def test_without_beam_the_package_is_named(config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    monkeypatch.delitem(sys.modules, "bert_jax.data.beam", raising=False)
    monkeypatch.delattr("bert_jax.data.beam", raising=False)
    with pytest.raises(InputError, match=r"^--beam_options needs .*: pip install apache-beam\.$"):
        prepare.run(config, tmp_path / "beam", HERE)
    prepare.run(config, tmp_path / "here")  # imports none


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--runner=Nowhere", "Unexpected pipeline runner: Nowhere"),
        ("--direct_num_workers=two", "argument --direct_num_workers: invalid int value: 'two'$"),
        ("--runner='", "No closing quotation"),
    ],
)
def test_bad_options_are_named(options, message, config, tmp_path):
    with pytest.raises(InputError, match=f"^--beam_options=.* cannot be used: {message}"):
        prepare.run(config, tmp_path, options)


def test_what_a_worker_finds_wrong_is_one_sentence(config, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"text": "好。"}\n{"text": 1}\n', "utf-8")
    config.sources = (*config.sources[:1], str(tmp_path / "bad.jsonl"))
    with pytest.raises(
        InputError, match=r"^[^\n]*bad\.jsonl:2: field 'text' is int, .*mend the data\.$"
    ):
        prepare.run(config, tmp_path / "beam", HERE)
    assert [path.name for path in (tmp_path / "beam").iterdir()] == ["config.json"]


def test_a_split_without_a_row_is_named(tmp_path):
    texts = [chr(number) * 3 for number in range(1, 9)]  # control characters
    path = corpus.write_documents(tmp_path / "a.txt", texts)
    config = corpus.prepare_config(path)
    config.tokenizer.path = str(tmp_path / "vocab.txt")
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n好\n", "utf-8")
    with pytest.raises(InputError, match="hold no sentence for"):
        prepare.run(config, tmp_path / "beam", HERE)


def test_a_source_that_holds_nothing_is_named(config, tmp_path):
    for name in ("a1.txt", "a2.txt"):
        (tmp_path / name).write_text("\n")
    with pytest.raises(InputError, match=r"a\*\.txt holds no document"):
        prepare.run(config, tmp_path / "beam", HERE)


def test_a_source_that_changes_between_the_readings_is_refused(config, tmp_path, monkeypatch):
    def plan_shards(*given):
        (tmp_path / "b.txt").write_text("别的话。\n", "utf-8")
        return prepare.plan_shards(*given)

    monkeypatch.setattr(beam, "plan_shards", plan_shards)
    with pytest.raises(InputError, match="changed while they were read: prepare again"):
        prepare.run(config, tmp_path / "beam", HERE)
