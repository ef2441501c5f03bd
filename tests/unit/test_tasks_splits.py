"""Which rows are read, and for what."""

import pytest
import small

from bert_jax.errors import InputError
from bert_jax.fields import build
from bert_jax.finetune_config import FinetuneConfig, LabelledDataConfig
from bert_jax.tasks.classify import Classify
from bert_jax.tasks.multilabel import Multilabel
from bert_jax.tasks.regress import Regress
from bert_jax.tasks.splits import labelled_rows, read_splits, read_test, untrained_labels
from bert_jax.tasks.start import Start
from bert_jax.tasks.tag import TagWords
from bert_jax.tasks.text_task import index_of
from bert_jax.tasks.tuning import Data
from bert_jax.text.conll import TaggedText
from bert_jax.text.labelled import LabelledText
from configs import finetune_sentiment

# By the hash of the text (test_text_labelled.py).
PARTS = {"很，好": "train", "好": "validation", " 服！": "test"}


@pytest.fixture
def source(tmp_path):
    """A row in each part, labelled with its name."""
    rows = "".join(f'"{text}",{part}\n' for text, part in PARTS.items())
    (tmp_path / "a.csv").write_text("text,label\n" + rows, encoding="utf-8")
    return str(tmp_path / "a.csv")


def data_of(**fields):
    return build(LabelledDataConfig, finetune_sentiment.get_config().data.to_dict() | fields)


def labels(rows):
    return sorted(row.label for row in rows)


def test_the_parts_of_one_source(source):
    splits = read_splits(Classify, data_of(train=source), is_tested=False)
    assert {part: labels(rows) for part, rows in splits.items()} == {p: [p] for p in PARTS.values()}
    assert labels(labelled_rows(splits, data_of(train=source))) == sorted(PARTS.values())
    assert labels(read_test(Classify, data_of(train=source))) == ["test"]


@pytest.mark.parametrize(
    ("has_validation", "train", "known"),
    [
        (True, ["test", "train", "validation"], ["test", "train", "validation"]),
        (False, ["test", "train"], ["test", "train", "validation"]),
    ],
)
def test_named_test_rows_are_read_where_they_are_used(
    has_validation, train, known, source, tmp_path
):
    data = data_of(
        train=source,
        validation=source if has_validation else "",
        test=str(tmp_path / "test.csv"),
    )
    splits = read_splits(Classify, data, is_tested=False)
    assert (labels(splits["train"]), splits["test"]) == (train, [])
    with pytest.raises(InputError, match=r"test\.csv"):
        read_splits(Classify, data, is_tested=True)
    with pytest.raises(InputError, match=r"test\.csv"):
        read_test(Classify, data)
    (tmp_path / "test.csv").write_text("text,label\na,b\n", encoding="utf-8")
    tested = read_splits(Classify, data, is_tested=True)
    assert labels(tested["test"]) == labels(read_test(Classify, data)) == ["b"]
    assert labels(labelled_rows(tested, data)) == known


def test_what_the_hash_leaves_out_is_counted(tmp_path, capsys):
    rows = [("a", "x"), ("b", "x"), ("b!", "y"), ("a.", "x"), ("?", "y")]
    texts = [(f"c{n}", "xy"[n % 2]) for n in range(60)]
    lines = "\n".join(f"{text},{label}" for text, label in [*rows, *texts])
    (tmp_path / "a.csv").write_text(f"text,label\n{lines}\n")
    data = data_of(train=str(tmp_path / "a.csv"))
    splits = read_splits(Classify, data, is_tested=False)
    assert sum(map(len, splits.values())) == 61
    assert "cut by hash: 4 of 65 rows left out" in capsys.readouterr().out


def test_no_test_rows_are_named(source, tmp_path):
    data = data_of(train=source, validation=source)
    with pytest.raises(InputError, match=r"^config\.data\.test is empty"):
        read_test(Classify, data)
    (tmp_path / "b.csv").write_text("text,label\n好,a\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"b\.csv holds no row: name config\.data\.test"):
        read_test(Classify, data_of(train=str(tmp_path / "b.csv")))


@pytest.mark.parametrize("has_validation", [True, False])
def test_labels_that_the_hash_keeps_from_training_are_named(has_validation, source, capsys):
    config = finetune_sentiment.get_config("tiny")
    config.update(init_from="none", tokenizer="none is read")
    config.data.update(train=source, validation=source if has_validation else "")
    start = Start(small.model_config(), small.tokenizer(), None)
    opened = Data.open(Classify, build(FinetuneConfig, config), start)
    assert opened.task.labels == ("test", "train", "validation")
    said = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert len(said) == (not has_validation)
    assert all("in no training row, and so never learnt: test, validation; " in s for s in said)


def text(label):
    return LabelledText("a", "", label, "file:1")


def tagged(*tags):
    return TaggedText("a " * len(tags), ("a",) * len(tags), tags, "first", "file:1")


@pytest.mark.parametrize(
    ("task", "rows", "untrained"),
    [
        (Multilabel, [text(("a", "b")), text(()), text(("b", "c"))], ["c"]),
        (TagWords, [tagged("O", "B-X"), tagged("I-X", "O"), tagged("B-Y")], ["B-Y", "I-X"]),
        (Regress, [text(1.0), text(2.0), text(3.0)], []),
    ],
)
def test_what_the_hash_keeps_from_training_is_of_the_task(task, rows, untrained):
    splits = dict(zip(("train", "validation", "test"), ([row] for row in rows), strict=True))
    assert untrained_labels(task, splits, data_of(train="a.csv")) == untrained


@pytest.mark.parametrize(
    ("count", "known"), [(10, "1, 2, 3, 4, 5, 6, 7, 8, 9, 10"), (12, "8, 9, 10 and 2 more")]
)
def test_ten_of_the_known_labels_are_shown(count, known):
    names = tuple(str(number) for number in range(1, count + 1))
    with pytest.raises(InputError, match=rf"^a:1: label 'x' was never .*{known}\); correct"):
        index_of("x", names, "a:1")
