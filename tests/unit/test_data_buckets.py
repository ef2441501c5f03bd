"""Documents dealt to shards by their hash: nothing lost, nothing twice, in any order."""

import collections
import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import SIGMAS

from bert_jax.config import InstancesConfig, PrepareConfig, TokenizerConfig
from bert_jax.data import buckets
from bert_jax.data.buckets import Document, deal, describe, passes, read_shard, split_of
from bert_jax.errors import InputError


def config(*sources, heldout_fraction=0.1, drop=False, passes=(1.0,)):
    return PrepareConfig(
        sources=tuple(map(str, sources)),
        text_field="text",
        max_documents=0,
        heldout_fraction=heldout_fraction,
        tokenizer=TokenizerConfig(
            path="",
            kind="wordpiece",
            vocab_size=100,
            lowercase=True,
            chinese_words=False,
            max_word_characters=100,
            train_megabytes=1,
        ),
        instances=InstancesConfig(
            objective="mlm",
            length=32,
            passes=passes,
            short_probability=0.0,
            packing=True,
            words="pieces",
        ),
        drop_duplicate_paragraphs=drop,
        shards=1,
        shard_megabytes=1,
        workers=1,
        seed=0,
    )


def write(path, documents):
    path.write_text("\n\n".join(documents) + "\n", "utf-8")
    return path


def dealt(folder, config):
    folder.mkdir()
    deal(config, folder, describe(config))
    return folder


def texts(folder, shards=1, splits=("train", "heldout")):
    """The texts of every shard of both splits."""
    return [
        [document.text for document in read_shard(folder, split, shard, shards)]
        for split in splits
        for shard in range(shards)
    ]


def joined(lists):
    return [text for found in lists for text in found]


TEXTS = [f"Document {n}.\nIts second line is {n * n}." for n in range(700)]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    return dealt(folder / "buckets", config(write(folder / "a.txt", TEXTS)))


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 100, 255, 256, 257, 1000])
def test_every_document_is_in_exactly_one_shard(many, shards):
    found = texts(many, shards, splits=("train",))
    assert sorted(joined(found)) == sorted(joined(texts(many, splits=("train",))))
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in joined(found)]
    # By its hash: the shard, and the place in it.
    places = [int(digest[8:16], 16) for digest in digests]
    assert [place * shards >> 32 for place in places] == sorted(
        place * shards >> 32 for place in places
    )
    for shard in found:
        hashes = [hashlib.sha256(text.encode()).hexdigest() for text in shard]
        assert hashes == sorted(hashes)


def test_the_shards_do_not_depend_on_how_many_buckets_there_are(many, tmp_path, monkeypatch):
    expected = {shards: texts(many, shards) for shards in (1, 3, 8, 300)}
    for count in (1, 16, 1024):
        monkeypatch.setattr(buckets, "BUCKETS", count)
        folder = dealt(tmp_path / f"{count}", config(write(tmp_path / "a.txt", TEXTS)))
        assert len(list(folder.glob("train-*"))) <= count
        for shards, found in expected.items():
            assert texts(folder, shards) == found


def test_neither_the_order_nor_the_files_matter(many, tmp_path):
    a = write(tmp_path / "a.txt", TEXTS[:100:-1])
    b = write(tmp_path / "b.txt", TEXTS[:101][::-1])
    folder = dealt(tmp_path / "buckets", config(tmp_path / "*.txt"))
    assert texts(folder, 5) == texts(many, 5)
    folder = dealt(tmp_path / "others", config(b, a))
    assert texts(folder, 5) == texts(many, 5)


def test_the_held_out_share_is_as_asked_and_by_the_text_alone(many):
    train, heldout = (joined(texts(many, splits=(split,))) for split in ("train", "heldout"))
    assert sorted(train + heldout) == sorted(TEXTS)
    error = math.sqrt(0.1 * 0.9 / len(TEXTS))
    assert abs(len(heldout) / len(TEXTS) - 0.1) < SIGMAS * error
    more = config("x", heldout_fraction=0.2)
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in heldout]
    # What is held out stays so when more is.
    assert {split_of(digest, more) for digest in digests} == {"heldout"}


def digests(count):
    return [hashlib.sha256(str(n).encode()).hexdigest() for n in range(count)]


@pytest.mark.parametrize("wanted", [0.25, 1.0, 2.5, 3.0])
def test_a_fraction_of_passes_is_that_share_of_the_documents(wanted):
    one = config("a", passes=(wanted,))
    found = np.array([passes(Document(digest, 0, ""), "train", one) for digest in digests(5000)])
    share = wanted % 1
    assert set(found) == {math.floor(wanted), math.ceil(wanted)}
    error = math.sqrt(share * (1 - share) / len(found))
    assert abs(found.mean() - wanted) <= SIGMAS * error
    again = [passes(Document(digest, 0, ""), "train", one) for digest in digests(5000)]
    assert found.tolist() == again
    assert {passes(Document(digest, 0, ""), "heldout", one) for digest in digests(99)} == {1}


def test_passes_are_those_of_the_source_and_independent_of_shard_and_split():
    two = config("a", "b", passes=(0.5, 4.5))
    train = [digest for digest in digests(8000) if split_of(digest, two) == "train"]
    for source, whole in ((0, 0), (1, 4)):
        found = np.array([passes(Document(d, source, ""), "train", two) for d in train])
        assert set(found) == {whole, whole + 1}
        for shard in range(4):
            here = found[[buckets.place(digest, 4) == shard for digest in train]]
            assert abs(here.mean() - whole - 0.5) < SIGMAS * math.sqrt(0.25 / len(here))


def test_an_equal_document_stays_once_and_with_its_first_source(tmp_path):
    a = write(tmp_path / "a.txt", ["one", "two", "one"])
    b = write(tmp_path / "b.txt", ["three", "two", "one"])
    for sources, expected in (((a, b), [0, 0, 1]), ((b, a), [0, 0, 0])):
        folder = dealt(tmp_path / sources[0].stem, config(*sources, heldout_fraction=0.0))
        found = {document.text: document.source for document in read_shard(folder, "train", 0, 1)}
        assert [found[text] for text in ("one", "two", "three")] == expected


LINES = st.lists(st.sampled_from(["a", "b", "c", " c ", "dd", "e e", "f"]), min_size=1, max_size=5)


@given(st.lists(LINES, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_of_equal_lines_exactly_one_stays_in_any_order(tmp_path_factory, documents, random):
    folder = tmp_path_factory.mktemp("lines")
    documents.append(["in training"])  # its hash says so: there must be one
    made = ["\n".join(lines) for lines in documents]
    found = []
    for name in ("once", "again"):
        (folder / name).mkdir()
        half = random.randint(0, len(made))
        sources = [
            write(folder / name / f"{part}.txt", part_texts)
            for part, part_texts in (("a", made[:half]), ("b", made[half:]))
            if part_texts
        ]
        one = config(*sources, heldout_fraction=0.3, drop=True)
        found.append(joined(texts(dealt(folder / name / "buckets", one), 3)))
        random.shuffle(made)
    assert found[0] == found[1]
    lines = [line.strip() for text in found[0] for line in text.splitlines()]
    assert sorted(lines) == sorted({line.strip() for lines in documents for line in lines})


def test_without_the_option_equal_lines_stay(tmp_path):
    a = write(tmp_path / "a.txt", ["x\ny\nx", "x\nz"])
    found = joined(texts(dealt(tmp_path / "buckets", config(a))))
    assert collections.Counter("\n".join(found).splitlines()) == {"x": 3, "y": 1, "z": 1}


def test_a_source_that_changes_or_goes_while_it_is_read(tmp_path, monkeypatch):
    path = write(tmp_path / "a.txt", ["one", "two"])
    read = buckets.read_documents

    def then(do):
        def documents(source, **options):
            yield from read(source, **options)
            do()

        monkeypatch.setattr(buckets, "read_documents", documents)

    then(lambda: write(path, ["one", "two", "three"]))
    with pytest.raises(InputError, match=r"config\.sources changed while they were read"):
        dealt(tmp_path / "changed", config(path))
    then(path.unlink)
    with pytest.raises(InputError, match=r"a\.txt matches no file"):
        dealt(tmp_path / "gone", config(path))
