"""What a preparation refuses or is stopped by, and what it leaves then."""

import json
import os
import shutil

import pytest
from integration import corpus
from integration.test_prepare import contents

from bert_jax.data import buckets, dataset, prepare
from bert_jax.data.workers import WorkerLost, map_over
from bert_jax.errors import InputError
from bert_jax.tasks import finetune, pretrain


@pytest.fixture
def stopped(documents_path, tmp_path, monkeypatch):
    """A preparation that lost a worker after its first shard: its source, config, workdir."""
    source = shutil.copy(documents_path, tmp_path / "documents.txt")
    config = corpus.prepare_config(source)
    write_shard = prepare._write_shard
    written = []

    def write_one(job):
        if written:
            raise WorkerLost("a worker was killed")
        written.append(job)
        write_shard(job)

    with monkeypatch.context() as patched:
        patched.setattr(prepare, "_write_shard", write_one)
        with pytest.raises(WorkerLost):
            prepare.run(config, tmp_path / "data")
    return source, config, tmp_path / "data"


def read_nothing(*_, **__):
    raise AssertionError("the documents were dealt already")


def test_a_worker_that_is_killed_ends_the_preparation_with_a_sentence(documents_path):
    config = corpus.prepare_config(documents_path)
    config.workers = 2
    with (
        pytest.raises(WorkerLost, match=r"lower config\.workers or config\.shard_megabytes"),
        map_over(config.workers) as over,
    ):
        list(over(os._exit, [1]))


def test_a_preparation_that_lost_a_worker_goes_on(stopped, data, monkeypatch):
    _, config, workdir = stopped
    monkeypatch.setattr(buckets, "read_documents", read_nothing)
    prepare.run(config, workdir)
    assert contents(workdir)[0] == contents(data)[0]


def test_a_source_out_of_reach_takes_nothing_away(stopped, data, tmp_path, monkeypatch):
    source, config, workdir = stopped
    away = source.rename(tmp_path / "away")
    with pytest.raises(InputError, match=r"documents\.txt matches no file"):
        prepare.run(config, workdir)
    away.rename(source)
    monkeypatch.setattr(buckets, "read_documents", read_nothing)
    prepare.run(config, workdir)
    assert contents(workdir)[0] == contents(data)[0]


def test_wrong_options_of_beam_take_nothing_away(stopped, monkeypatch):
    pytest.importorskip("apache_beam")
    _, config, workdir = stopped
    before = sorted(workdir.rglob("*"))
    with pytest.raises(InputError, match="--beam_options"):
        prepare.run(config, workdir, beam_options="--runner=NoSuchRunner")
    assert sorted(workdir.rglob("*")) == before


def test_another_vocabulary_in_the_same_process_and_workdir(documents_path, tmp_path):
    config = corpus.prepare_config(documents_path)
    prepare.run(config, tmp_path / "data")
    shutil.rmtree(tmp_path / "data")
    config.tokenizer.vocab_size = 300
    prepare.run(config, tmp_path / "data")
    prepare.run(config, tmp_path / "fresh")
    assert contents(tmp_path / "data")[0] == contents(tmp_path / "fresh")[0]


def test_the_workdir_of_a_training_is_left_alone(documents_path, pretrained, tmp_path):
    shutil.copytree(pretrained / "checkpoints", tmp_path / "checkpoints")
    with pytest.raises(InputError, match="holds a training run: choose another directory"):
        prepare.run(corpus.prepare_config(documents_path), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def files_of(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_no_training_is_put_over_a_preparation(stage, data, reviews_path, tmp_path):
    workdir = shutil.copytree(data, tmp_path / "data")
    before = files_of(workdir)
    stages = {
        "pretrain": (pretrain.run, corpus.pretrain_config(workdir)),
        "finetune": (
            finetune.run,
            corpus.finetune_config(reviews_path, "none", str(workdir / "tokenizer")),
        ),
    }
    run, config = stages[stage]
    with pytest.raises(InputError, match=r"holds a config\.json that this stage has not written"):
        run(config, workdir)
    assert files_of(workdir) == before


@pytest.mark.parametrize("beam_options", [None, "--runner=FnApiRunner"])
@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("config.json", '{"model_type": "bert"}', r"config\.json"),
        ("config.json", "[]", r"config\.json"),
        ("config.json", "// no JSON", r"config\.json"),
        ("tokenizer/notes.txt", "mine", "tokenizer/"),
    ],
)
def test_what_no_preparation_has_written_is_left_alone(
    name, content, told, beam_options, documents_path, tmp_path
):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    with pytest.raises(InputError, match=f"holds a {told} that this stage has not written"):
        prepare.run(corpus.prepare_config(documents_path), tmp_path, beam_options)
    assert files_of(tmp_path) == {path: content.encode()}


def test_the_given_vocabulary_is_not_that_of_the_workdir(documents_path, data, tmp_path):
    shutil.copytree(data / "tokenizer", tmp_path / "tokenizer")
    config = corpus.prepare_config(documents_path)
    config.tokenizer.path = str(tmp_path / "tokenizer")
    with pytest.raises(InputError, match=r"config\.tokenizer\.path=.* lies in --workdir"):
        prepare.run(config, tmp_path)
    assert (tmp_path / "tokenizer" / "vocab.txt").exists()


def test_a_finished_dataset_that_is_damaged_is_not_called_finished(documents_path, data, tmp_path):
    workdir = shutil.copytree(data, tmp_path / "data")
    next(workdir.glob("*train.array_record-00001*")).unlink()
    with pytest.raises(InputError, match=r"is missing and was .* or delete it and prepare it"):
        prepare.run(corpus.prepare_config(documents_path), workdir)


def test_a_dataset_of_another_version_is_named(data, tmp_path):
    workdir = shutil.copytree(data, tmp_path / "data")
    manifest = json.loads((workdir / "manifest.json").read_text("utf-8"))
    (workdir / "manifest.json").write_text(json.dumps(manifest | {"version": "1.0.0"}), "utf-8")
    with pytest.raises(InputError, match=r"is of version 1\.0\.0, and 2\.0\.0 is read here"):
        dataset.read_manifest(workdir)


def test_records_without_text_are_counted_and_warned_of(tmp_path, capsys):
    texts = [*corpus.documents(40), "", " ", None]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    manifest = prepare.run(corpus.prepare_config(path), tmp_path / "data")
    (source,) = manifest["sources"]
    assert (source["documents"], source["without_text"]) == (40, 3)
    assert "3 of 43 records of" in capsys.readouterr().out
