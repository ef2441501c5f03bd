"""The rows on disk: read as they were written, and what is damaged is named."""

import itertools
import json

import numpy as np
import pytest

from bert_jax.config import MaskingConfig
from bert_jax.data import dataset, pipeline
from bert_jax.data.rows import Row
from bert_jax.errors import InputError
from bert_jax.text import tokenizer as tokenizers
from bert_jax.text.files import checksum

COUNTS = (5, 0, 4)  # rows of each shard; a hash may give a shard nothing


def row(number):
    """Told apart by its ids, which no compression makes short."""
    ids = np.random.default_rng(number).integers(5, 1000, 30).astype(np.int32)
    one = np.array([1], np.int32)
    return Row(ids, ids % 2 == 0, 30 * one, 10 * one, one.astype(np.int8))


@pytest.fixture
def shards(tmp_path):
    """The paths of a dataset of nine rows."""
    paths = [dataset.shard_path(tmp_path, "train", i, len(COUNTS)) for i in range(len(COUNTS))]
    numbers = itertools.count()
    written = [
        (count, dataset.write_shard(path, [row(next(numbers)) for _ in range(count)]))
        for path, count in zip(paths, COUNTS, strict=True)
    ]
    dataset.write_metadata(tmp_path, {"train": written})
    shards = {path.name: checksum(path) for path in paths}
    manifest = {"version": dataset.VERSION, "shards": shards}
    (tmp_path / dataset.MANIFEST).write_text(json.dumps(manifest))
    return paths


def assert_row(found, expected):
    for name, ours, theirs in zip(Row._fields, found, expected, strict=True):
        assert ours.dtype == theirs.dtype, name
        assert ours.tolist() == theirs.tolist(), name


def test_rows_come_back_as_they_were_written(shards):
    source = dataset.RowSource(shards[0].parent, "train")
    assert len(source) == sum(COUNTS)
    for index in (8, 0, 4, 5, 3):
        assert_row(source[index], row(index))
    dataset.check_shards(shards[0].parent, dataset.read_manifest(shards[0].parent))


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_bytes(b""), "0 bytes long"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "131,071 bytes long"),
        (lambda path: path.write_bytes(path.read_bytes() + b"\0"), "131,073 bytes long"),
    ],
)
def test_a_shard_of_another_size_is_named(shards, damage, found):
    directory = shards[2].parent
    damage(shards[2])
    message = rf"00002-of-00003 is {found} and was written with 131,072 bytes: copy"
    with pytest.raises(InputError, match=message):
        dataset.check_shards(directory, dataset.read_manifest(directory))


def refusal(source, index):
    """What is said of a row, if it is not read."""
    try:
        source[index]
    except InputError as error:
        return str(error)
    return ""


def test_a_record_that_fails_its_checksum_is_named_wherever_it_is_damaged(shards):
    whole = shards[2].read_bytes()
    refused = set()
    for place in [place for place, byte in enumerate(whole) if byte][::37]:
        shards[2].write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        source = dataset.RowSource(shards[2].parent, "train")
        for index in range(sum(COUNTS)):
            message = refusal(source, index)
            if message:
                refused.add(index)
                assert "00002-of-00003 holds a record that cannot be read" in message
                assert f"(row {index}, " in message
            else:
                assert_row(source[index], row(index))
    assert refused == {5, 6, 7, 8}


def test_a_damaged_record_ends_the_batches_with_its_name(shards, tmp_path):
    whole = bytearray(shards[0].read_bytes())
    whole[500] ^= 0xFF
    shards[0].write_bytes(whole)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    batches = pipeline.training_batches(
        dataset.RowSource(shards[0].parent, "train"),
        tokenizers.load(tmp_path / "vocab.txt"),
        MaskingConfig("token", 1, 0.15, 5, 0.8, 0.1, True),
        length=32,
        max_instances=1,
        batch_size=4,
        seed=0,
    )
    with pytest.raises(InputError, match=r"00000-of-00003 holds .* \(row [0-4], "):
        list(itertools.islice(pipeline.iterate_from(batches, 0), 3))


@pytest.mark.parametrize("text", ["", "{", "[]", '"shards"', "{}", "\0"])
def test_what_is_no_manifest_is_named(tmp_path, text):
    (tmp_path / dataset.MANIFEST).write_text(text)
    with pytest.raises(InputError, match=r"manifest\.json is not a manifest of rows: copy"):
        dataset.read_manifest(tmp_path)


def test_a_manifest_that_is_missing(tmp_path):
    with pytest.raises(InputError, match=r"holds no prepared dataset \(manifest\.json is missing"):
        dataset.read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("content", [None, "{"])
def test_a_dataset_that_tfds_cannot_open_is_named(shards, name, content):
    path = shards[0].with_name(name)
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match="cannot be opened as a dataset"):
        dataset.RowSource(path.parent, "train")


def test_a_shard_appears_whole_or_not_at_all(tmp_path):
    path = dataset.shard_path(tmp_path, "train", 0, 1)

    def rows():
        yield row(0)
        assert not path.exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dataset.write_shard(path, rows())
    assert not path.exists()
    dataset.write_shard(path, [row(0)])
    assert list(tmp_path.iterdir()) == [path]
