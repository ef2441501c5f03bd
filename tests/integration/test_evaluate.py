"""What stands in the way of an evaluation: said early, and nothing half-written."""

import errno
import os
from pathlib import Path

import foreign
import pytest
from integration import corpus
from safetensors.numpy import save_file

from bert_jax import workdir as wd
from bert_jax.errors import InputError
from bert_jax.tasks import conversion, evaluate
from bert_jax.tasks.conversion import Options
from bert_jax.tasks.forward import Forward


@pytest.fixture
def run(tmp_path):
    """A classifier of others and a config with rows for it."""
    source = tmp_path / "hf"
    foreign.write_description(source, "BertForSequenceClassification")
    save_file(foreign.tensors("pooler", "classifier"), source / "model.safetensors")
    options = dict.fromkeys(("model_config", "tokenizer", "allow_missing", "allow_unknown"), "")
    paths = dict(source=str(source), to=str(tmp_path / "run"), format="bert_jax")
    conversion.run(Options(**paths, **options, add_words="", positions=0))
    rows = corpus.write_reviews(tmp_path / "test.csv", [("ab c", "bad"), ("好 a", "good")])
    config = corpus.finetune_config(tmp_path / "none.csv", "")
    config.data.test = str(rows)
    return config, tmp_path / "run"


def answers_nothing(*_, **__):
    pytest.fail("rows were answered")


def test_a_workdir_that_cannot_be_written_is_named_first(run, monkeypatch):
    def read_only(_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(wd, "try_writing", read_only)
    monkeypatch.setattr(Forward, "evaluate", answers_nothing)
    with pytest.raises(InputError, match=r"--workdir=.*run cannot be written \(Read-only file sys"):
        evaluate.run(*run)


def test_rows_of_a_submission_are_read_first(run, monkeypatch):
    config, workdir = run
    config.submissions = (dict(rows="not there", file="a.json", form="clue", written=()),)
    config.submit = True
    monkeypatch.setattr(Forward, "evaluate", answers_nothing)
    with pytest.raises(InputError, match=r"^not there matches no file"):
        evaluate.run(config, workdir)


def test_nothing_is_read_where_there_is_nothing_to_submit(run):
    config, workdir = run
    config.submit = True
    config.data.test = "not there"
    with pytest.raises(InputError, match=r"run was made without config\.submissions: give a conf"):
        evaluate.run(config, workdir)


def test_a_full_disk_leaves_the_report_and_the_numbers_of_before(run, monkeypatch):
    config, workdir = run
    evaluate.run(config, workdir)
    before = {path: path.read_bytes() for path in workdir.iterdir() if path.is_file()}
    assert {"report.md", "report.html", "evaluation.json"} <= {path.name for path in before}
    corpus.write_reviews(Path(config.data.test), [("b", "good")])
    chmod, left = os.chmod, [2]

    def full(*args):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        chmod(*args)

    monkeypatch.setattr(os, "chmod", full)
    with pytest.raises(InputError, match=r"run cannot be written \(the disk is full\): free space"):
        evaluate.run(config, workdir)
    assert {path: path.read_bytes() for path in workdir.iterdir() if path.is_file()} == before
