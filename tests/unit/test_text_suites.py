"""What the records of suites become, by the rows of their own kind."""

import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from bert_jax.errors import InputError
from bert_jax.fields import build
from bert_jax.finetune_config import LabelledDataConfig
from bert_jax.text.labelled import as_class, read_labelled, read_unlabelled
from bert_jax.text.suites import FORMS
from configs import finetune_sentiment

PAIR = dict(text_field="sentence1", pair_field="sentence2")


def data(form="plain", **fields):
    values = finetune_sentiment.get_config().data.to_dict() | {"form": form} | fields
    return build(LabelledDataConfig, values)


def read(tmp_path, records, form, *, name="a.json", **fields):
    path = tmp_path / name
    lines = (json.dumps(record, ensure_ascii=False) for record in records)
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return read_labelled(str(path), data(form, **fields), as_class)


def test_every_form_is_known_to_the_config():
    for form in FORMS:
        assert data(form).form == form
    with pytest.raises(InputError, match=r"config\.data\.form='cls' is not known; did you mean"):
        data("cls")


def test_rows_without_agreement_are_left_out(tmp_path):
    records = [
        {"sentence1": "一", "sentence2": "二", "label": label}
        for label in ("neutral", "-", "entailment")
    ]
    rows = read(tmp_path, records, "agreed", **PAIR)
    assert [(row.label, row.where[-2:]) for row in rows] == [
        ("neutral", ":1"),
        ("entailment", ":3"),
    ]
    assert len(read(tmp_path, records, "plain", **PAIR)) == 3


def test_rows_without_a_text_are_left_out(tmp_path):
    records = [
        {"sentence1": "a", "sentence2": second, "label": "0"}
        for second in ("b", "", " ", None, "c")
    ]
    rows = read(tmp_path, records, "whole", **PAIR)
    assert [row.pair for row in rows] == ["b", "c"]
    with pytest.raises(InputError, match=r"a\.json:2: the text in field 'sentence2' is empty"):
        read(tmp_path, records, "plain", **PAIR)


def test_a_row_without_a_label_may_lack_a_text(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"sentence1": "a", "sentence2": None, "id": 7}))
    ((id, row),) = read_unlabelled(str(path), data("whole", **PAIR))
    assert (id, row.text, row.pair) == (7, "a", "")


def test_keywords_are_joined(tmp_path):
    fields = dict(text_field="keyword", pair_field="abst")
    record = {"id": 1, "abst": "摘要", "keyword": ["水处理", "超滤膜"], "label": "0"}
    (row,) = read(tmp_path, [record], "csl", **fields)
    assert row[:3] == ("水处理 超滤膜", "摘要", "0")
    with pytest.raises(InputError, match=r"a\.json:1: field 'keyword' is str, not a list"):
        read(tmp_path, [record | {"keyword": "水"}], "csl", **fields)


def target(one, at, other, there):
    return {"span1_text": one, "span1_index": at, "span2_text": other, "span2_index": there}


def marked(text, spans):
    """As the baselines of CLUE mark them: one insertion after another into a list."""
    letters = list(text)
    query, at, pronoun, there = (
        *(spans["span1_text"], spans["span1_index"]),
        *(spans["span2_text"], spans["span2_index"]),
    )
    first, second = ((at, query, "_", "_"), (there, pronoun, "[", "]"))
    if there <= at:
        first, second = second, first
    letters.insert(first[0], first[2])
    letters.insert(first[0] + len(first[1]) + 1, first[3])
    letters.insert(second[0] + 2, second[2])
    letters.insert(second[0] + len(second[1]) + 3, second[3])
    return "".join(letters)


WSC = "我们把床放在窗边，它很大，他们说。"


@pytest.mark.parametrize(
    ("spans", "wanted"),
    [
        (target("床", 3, "它", 9), "我们把_床_放在窗边，[它]很大，他们说。"),
        (target("他们", 13, "它", 9), "我们把床放在窗边，[它]很大，_他们_说。"),
        (target("，", 8, "它", 9), "我们把床放在窗边_，_[它]很大，他们说。"),  # side by side
        (target("很大", 10, "它", 9), "我们把床放在窗边，[它]_很大_，他们说。"),
    ],
)
def test_noun_and_pronoun_are_marked(spans, wanted, tmp_path):
    record = {"text": WSC, "target": spans, "label": "true"}
    (row,) = read(tmp_path, [record], "cluewsc")
    assert row.text == wanted == marked(WSC, spans)
    parquet.write_table(pa.Table.from_pylist([record]), tmp_path / "a.parquet")
    (same,) = read_labelled(str(tmp_path / "a.parquet"), data("cluewsc"), as_class)
    assert same.text == row.text


@pytest.mark.parametrize(
    ("spans", "which"),
    [
        (target("床", 4, "它", 9), "span1"),
        (target("床", 3, "它", 99), "span2"),
        (target("说", -2, "它", 9), "span1"),
        ({"span1_text": "床"}, "span1"),
        ("床", "span1"),
    ],
)
def test_a_span_that_is_not_there_is_named(spans, which, tmp_path):
    record = {"text": WSC, "target": spans, "label": "true"}
    with pytest.raises(InputError, match=f"a.json:1: field 'target' names no {which}_text that"):
        read(tmp_path, [record], "cluewsc")


XNLI = dict(text_field="premise", pair_field="hypo")


def test_both_kinds_of_xnli_files(tmp_path):
    train = [
        {"premise": "一", "hypo": "二", "label": "contradictory"},
        {"premise": "三", "hypo": "四", "label": "neutral"},
    ]
    rows = read(tmp_path, train, "xnli_zh", **XNLI)
    assert [row[:3] for row in rows] == [("一", "二", "contradiction"), ("三", "四", "neutral")]
    test = [
        {"language": language, "gold_label": "entailment", "sentence1": "a", "sentence2": "b"}
        for language in ("en", "zh")
    ]
    (row,) = read(tmp_path, test, "xnli_zh", **XNLI)
    assert row[:3] == ("a", "b", "entailment")
    parquet.write_table(pa.Table.from_pylist(test), tmp_path / "a.parquet")
    (same,) = read_labelled(str(tmp_path / "a.parquet"), data("xnli_zh", **XNLI), as_class)
    assert same[:3] == row[:3]
    assert row.where.endswith(":2")


def test_rows_without_labels_are_read_for_submissions_alone(tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_text(
        '{"id": 7, "sentence1": "a", "sentence2": ""}\n{"sentence1": "c", "sentence2": "d"}\n'
    )
    found = read_unlabelled(str(path), data("agreed", **PAIR))
    assert [(id, row[:3]) for id, row in found] == [(7, ("a", "", "")), (1, ("c", "d", ""))]
    with pytest.raises(InputError, match=r"test\.jsonl:1 has no field 'label'"):
        read_labelled(str(path), data("agreed", **PAIR), as_class)
    (tmp_path / "test.tsv").write_text("index\tsentence1\tsentence2\n1\ta\tb\n0\tc\td\n")
    found = read_unlabelled(str(tmp_path / "test.tsv"), data("whole", **PAIR))
    assert [id for id, _ in found] == ["1", "0"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": [1], "text": "a"}', "bad.jsonl:1: the id is list"),
        ('{"id": 1, "txt": "a"}', "bad.jsonl:1 has no field 'text'"),
        ("", "bad.jsonl holds no row"),
    ],
)
def test_a_bad_row_without_label_is_named(line, message, tmp_path):
    (tmp_path / "bad.jsonl").write_text(line)
    with pytest.raises(InputError, match=message):
        read_unlabelled(str(tmp_path / "bad.jsonl"), data())


@pytest.mark.parametrize("name", ["id", "idx", "index"])
def test_ids_of_further_rows_are_read_from_parquet(name, tmp_path):
    rows = [{"text": "a", name: 7}, {"text": "b", name: 3}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert [id for id, _ in read_unlabelled(str(tmp_path / "a.parquet"), data())] == [7, 3]
