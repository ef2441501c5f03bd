"""Submissions to GLUE and CLUE, letter by letter."""

import numpy as np
import pytest
import small

from bert_jax.errors import InputError
from bert_jax.fields import build
from bert_jax.finetune_config import LabelledDataConfig, SubmissionConfig
from bert_jax.tasks import submission
from bert_jax.tasks.classify import Classify
from bert_jax.tasks.forward import Forward
from bert_jax.tasks.multilabel import Multilabel
from bert_jax.tasks.regress import Regress
from bert_jax.training.sharding import one_device_mesh
from configs import finetune_sentiment

DATA = build(LabelledDataConfig, finetune_sentiment.get_config().data)


def text(path, kind, answers, form, written=()):
    """The submission of a model that answers so."""
    config = SubmissionConfig(rows=str(path), file="a", form=form, written=written)
    task = kind(("no", "yes"), small.tokenizer(), 16, 0)
    forward = Forward(task, small.model_config(vocab_size=30), one_device_mesh())
    forward.evaluate = lambda *_, **__: answers
    return submission.text(submission.read(config, DATA, task), forward, {})


CHOSEN = [np.array([0.9, 0.1]), np.array([0.2, 0.8]), np.array([0.7, 0.3])]


def test_glue_is_in_the_order_of_the_official_file(tmp_path):
    path = tmp_path / "test.jsonl"  # as TFDS has them: shuffled
    path.write_text("".join(f'{{"idx": {n}, "text": "a"}}\n' for n in (2, 0, 1)))
    found = text(path, Classify, CHOSEN, "glue", ("yes=1", "no=0"))
    assert found == "index\tprediction\n0\t1\n1\t0\n2\t0\n"
    values = [np.float32(value) for value in (1.23456, -0.5, 3)]
    found = text(path, Regress, values, "glue")
    assert found == "index\tprediction\n0\t-0.500\n1\t3.000\n2\t1.235\n"


def test_clue_is_in_the_order_of_the_rows(tmp_path):
    path = tmp_path / "test.json"
    path.write_text("".join(f'{{"id": {n}, "text": "a"}}\n' for n in (2, 0, 1)))
    found = text(path, Classify, CHOSEN, "clue", ("yes=是=的",))
    assert found == (
        '{"id": 2, "label": "no"}\n{"id": 0, "label": "是=的"}\n{"id": 1, "label": "no"}\n'
    )


@pytest.mark.parametrize("numbers", [(0, 1, 3), (0, 1, 1), (1, 2, 3)])
def test_rows_of_glue_that_are_missing_are_noticed(numbers, tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_text("".join(f'{{"idx": {n}, "text": "a"}}\n' for n in numbers))
    with pytest.raises(InputError, match=r"numbered from 0 to 2, and those of .*test\.jsonl are n"):
        text(path, Classify, "not asked", "glue")


def test_sets_of_labels_are_no_submission(tmp_path):
    with pytest.raises(InputError, match=r"submit=True is for config\.task=classify or reg"):
        submission.check(Multilabel, (), (), tmp_path)


@pytest.mark.parametrize(
    ("given", "mend"),
    [
        ((), r"give a config that has some, .*, and their rows as a flag, --config\.submis"),
        (
            (dict(rows="a.tsv", file="A.tsv"),),
            r"give their rows as a flag, --config\.submissions\[0\]\.rows=a\.tsv\.$",
        ),
    ],
)
def test_a_run_without_submissions_has_nothing_to_submit(given, mend, tmp_path):
    message = rf"^config\.submit=True, and {tmp_path} was made without config\.submissions: {mend}"
    with pytest.raises(InputError, match=message):
        submission.check(Classify, (), given, tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("form", "glew", "form='glew' is not known; did you mean glue"),
        ("file", "a/b.tsv", "file='a/b.tsv' is no file name"),
        ("file", "", "file='' is no file name"),
        ("written", ("yes",), "written holds 'yes': write LABEL=TEXT"),
    ],
)
def test_a_bad_submission_is_named(field, value, message):
    values = dict(rows="a", file="a", form="glue", written=())
    with pytest.raises(InputError, match=message):
        build(SubmissionConfig, values | {field: value})
