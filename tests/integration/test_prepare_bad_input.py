"""Text that no program likes: what can be prepared is, what cannot is named in a sentence."""

import json
import shutil

import pytest
from integration import corpus

from bert_jax.data import prepare
from bert_jax.errors import InputError
from bert_jax.tasks import pretrain
from bert_jax.text import wordpiece
from bert_jax.text.sentences import LONGEST_PARAGRAPH


def prepared(path, directory, **changed):
    config = corpus.prepare_config(path)
    config.update(heldout_fraction=0.0, shards=1)
    config.update(changed)
    return prepare.run(config, directory)


def test_a_document_of_one_line_of_ten_megabytes(data, tmp_path):
    """No end of a sentence, half of it one word: it is cut, lest its time grows by the square."""
    line = "馆" * (5 * 10**6 // 3) + "茶楼 coffee " * (5 * 10**6 // 14)
    path = tmp_path / "line.txt"
    path.write_text(line, "utf-8")
    config = corpus.prepare_config(path)
    config.update(heldout_fraction=0.0, shards=1)
    config.tokenizer.path = str(data / "tokenizer")
    config.instances.update(objective="mlm", length=512, words="pieces")
    totals = prepare.run(config, tmp_path / "data")["splits"]["train"]
    assert totals["documents"] == 1
    assert totals["longest_document"] >= len(line) - totals["sentences"]  # spaces at the cuts
    assert totals["sentences"] >= len(line) / LONGEST_PARAGRAPH
    assert totals["row_tokens"] == totals["tokens"] + 2 * totals["instances"]


@pytest.mark.parametrize("given", [True, False], ids=["vocabulary given", "to be trained"])
def test_control_characters_alone_are_no_training_text(given, data, tmp_path):
    path = tmp_path / "control.txt"
    path.write_text("\u0001\u0002\n\n\u0007\u200b\n", "utf-8")
    config = corpus.prepare_config(path)
    config.heldout_fraction = 0.0
    config.tokenizer.path = str(data / "tokenizer") if given else ""
    message = "made of control characters" if given else "no text to train a tokenizer on"
    with pytest.raises(InputError, match=message):
        prepare.run(config, tmp_path / "data")
    assert {found.name for found in (tmp_path / "data").iterdir()} == {"config.json"}


def test_control_characters_among_text_are_counted_as_an_empty_document(tmp_path):
    path = corpus.write_documents(tmp_path / "a.txt", ["\u0001\u0002", *corpus.documents(30)])
    totals = prepared(path, tmp_path / "data")["splits"]["train"]
    assert (totals["documents"], totals["empty_documents"]) == (30, 1)


def test_a_lone_surrogate_is_named_with_its_line(tmp_path):
    path = tmp_path / "a.jsonl"
    texts = [*corpus.documents(3), "半个\ud800字"]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    with pytest.raises(InputError, match=r"a\.jsonl:4: field 'text' holds a lone surrogate"):
        prepared(path, tmp_path / "data")
    assert {found.name for found in (tmp_path / "data").iterdir()} == {"config.json"}


def test_a_source_that_changes_while_it_is_read_leaves_nothing(tmp_path, monkeypatch):
    path = corpus.write_documents(tmp_path / "a.txt", corpus.documents(30))
    describe, calls = prepare.buckets.describe_source, []

    def changing(source):
        calls.append(source)
        if len(calls) == 2:
            corpus.write_documents(path, corpus.documents(31))
        return describe(source)

    monkeypatch.setattr(prepare.buckets, "describe_source", changing)
    with pytest.raises(InputError, match=r"config\.sources changed while they were read"):
        prepared(path, tmp_path / "data")
    assert {found.name for found in (tmp_path / "data").iterdir()} == {"config.json"}
    assert prepared(path, tmp_path / "data")["sources"][0]["documents"] == 31


def damaged(data, tmp_path):
    directory = shutil.copytree(data, tmp_path / "copied")
    return directory, directory / "manifest.json"


def test_training_refuses_a_manifest_of_other_files(data, documents_path, tmp_path):
    directory, manifest = damaged(data, tmp_path)
    config = corpus.prepare_config(documents_path)
    config.shards = 3
    prepare.run(config, tmp_path / "other")
    shutil.copy(tmp_path / "other" / "manifest.json", manifest)
    with pytest.raises(InputError, match=r"of-00003 is missing and was written with"):
        pretrain.run(corpus.pretrain_config(directory), tmp_path / "run")


def test_training_refuses_a_vocabulary_of_another_dataset(data, tmp_path):
    directory, _ = damaged(data, tmp_path)
    vocabulary = directory / "tokenizer" / wordpiece.VOCABULARY_FILE
    vocabulary.write_text(vocabulary.read_text("utf-8") + "龘\n", "utf-8")
    with pytest.raises(InputError, match=r"is not the vocabulary that .* was prepared with"):
        pretrain.run(corpus.pretrain_config(directory), tmp_path / "run")


def test_training_refuses_what_is_no_manifest(data, tmp_path):
    directory, manifest = damaged(data, tmp_path)
    manifest.write_text("{}")
    with pytest.raises(InputError, match=r"manifest\.json is not a manifest of rows"):
        pretrain.run(corpus.pretrain_config(directory), tmp_path / "run")
    assert not (tmp_path / "run").exists()
