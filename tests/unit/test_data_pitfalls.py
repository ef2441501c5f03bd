"""Each warning: silent at its limit, and past it with the number and the mend."""

import numpy as np
import pytest

from bert_jax.data.pitfalls import pitfalls
from bert_jax.text import tokenizer as tokenizers

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "书", "店", "##e", "a", "the", "é"]
TRAIN = {
    "documents": 1_000,
    "empty_documents": 0,
    "one_sentence_documents": 100,
    "longest_document": 5_000,
    "characters": 10_000,
    "sentences": 4_000,
    "words": 5_000,
    "tokens": 10_000,
    "unknown": 100,
    "instances": 2_000,
    "labelled": 2_000,
    "not_following": 1_200,
    "rows": 1_000,
    "row_tokens": 20_000,
    "most_instances": 4,
    "shards": 10,
}
# Of the six pieces three occur; a tenth of the tokens is a letter.
COUNTS = [0, 100, 0, 0, 0, 4_000, 4_900, 600, 400, 0, 0]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "vocab.txt"
    path.write_text("".join(f"{piece}\n" for piece in PIECES), "utf-8")
    return tokenizers.load(path)


@pytest.fixture
def warnings_of(tokenizer):
    def of(counts=COUNTS, objective="mlm+nsp", heldout=True, without_text=0, **train):
        splits = {"train": TRAIN | train} | ({"heldout": TRAIN} if heldout else {})
        source = {"source": "a.jsonl", "documents": 30, "without_text": without_text}
        manifest = {"sources": [source], "splits": splits, "objective": objective}
        return pitfalls(manifest, np.array(counts), tokenizer)

    return of


def test_everything_at_its_limit_is_well(warnings_of):
    assert warnings_of() == []


@pytest.mark.parametrize(
    ("change", "number", "mend"),
    [
        ({"one_sentence_documents": 101}, "101 of 1,000 documents (10.1%)", "join"),
        ({"one_sentence_documents": 101}, "60.0% of all instances", "objective=mlm."),
        ({"without_text": 10}, "10 of 40 records of a.jsonl (25.0%)", "text_field"),
        ({"empty_documents": 1}, "1 of 1,001 documents (0.1%)", "text_field"),
        ({"longest_document": 5_010}, "50.1% of the 10,000 characters", "blank lines"),
        ({"unknown": 110}, "1.1% of the tokens are [UNK]", "tokenizer.path=''"),
        ({"shards": 11}, "a shard holds 91 documents", "config.shards"),
        ({"rows": 999}, "999 rows", "add text"),
        ({"heldout": False}, "0 held-out rows", "heldout_fraction"),
        (
            {"counts": [0, 100, 0, 0, 0, 5_000, 4_900, 0, 0, 0, 0]},
            "only 33.3% of the 6 pieces occur",
            "tokenizer.path=''",
        ),
        (
            {"counts": [0, 100, 0, 0, 0, 4_000, 4_800, 600, 400, 0, 100]},
            "11.0% of the tokens are single letters",
            "tokenizer.path=''",
        ),
    ],
    ids=str,
)
def test_past_its_limit_each_is_one_sentence(warnings_of, change, number, mend):
    (sentence,) = warnings_of(**change)
    assert number in sentence
    assert mend in sentence
    assert sentence.endswith(".")


def test_what_the_objective_does_not_mind(warnings_of):
    assert warnings_of(objective="mlm", one_sentence_documents=1_000, shards=11) == []
    (sentence,) = warnings_of(objective="mlm+sop", one_sentence_documents=1_000)
    assert "no order to predict" in sentence
    assert warnings_of(objective="mlm+sop", shards=11) == []
