"""Schemes of tags, and the entities in them, against seqeval."""

import random

import pytest

from bert_jax.tasks import scores
from bert_jax.text.tags import (
    PLAIN,
    complete,
    entities,
    in_another_form,
    inside,
    scheme_of,
    single_words,
)

SCHEMES = {"IO": "I", "BIO": "BI", "BIOES": "BIES", "BMES": "BMES", "mixed": "BIMES"}


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        ("O I-A I-B", "IO"),
        ("O B-A I-A", "BIO"),
        ("B-A", "BIO"),
        ("O S-A B-A", "BIOES"),
        ("B-A M-A E-A", "BMES"),
        ("U-A L-A O", "BILOU"),
        ("O B-A I-A M-A", "BIM"),
        ("B M E S", "BMES"),
        ("B I O", "BIO"),
        ("NN VB DT", PLAIN),
        ("S B N V", PLAIN),  # letters of parts of speech
        ("O", PLAIN),
        ("", PLAIN),
    ],
)
def test_the_scheme_is_found(tags, scheme):
    assert scheme_of(tags.split()) == scheme


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("O B_PER I_PER", "B_PER"),
        ("O PER-B PER_I", "PER-B"),
        ("O B-PER I-PER", ""),
        ("NN VB O", ""),
        ("B_PER NN", ""),  # one alone may be called so
        ("N-S V-S", ""),
        ("O", ""),
    ],
)
def test_a_scheme_in_another_form_is_seen(tags, found):
    assert in_another_form(tags.split()) == found


def test_labels_are_all_that_the_scheme_has():
    assert complete(["B-LOC", "O", "E-PER", "M-LOC"]) == (
        *("O", "B-LOC", "M-LOC", "E-LOC", "S-LOC"),
        *("B-PER", "M-PER", "E-PER", "S-PER"),
    )
    assert complete(["I-A-B"]) == ("O", "I-A-B")
    assert complete(["S", "B"]) == ("O", "B", "I", "E", "S")
    assert complete(["VB", "NN", "BN", "IN"]) == ("BN", "IN", "NN", "VB")
    assert "PER" not in complete(["B-PER", "PER"])


def test_a_beginning_goes_on_inside():
    bio, bmes = complete(["B-A", "I-A"]), complete(["M-A"])
    assert [inside(tag, bio) for tag in bio] == ["O", "I-A", "I-A"]
    assert [inside(tag, bmes) for tag in bmes] == ["O", "M-A", "M-A", "E-A", "S-A"]
    assert inside("BN", complete(["BN", "IN"])) == "BN"


# What seqeval 1.2.2 gives, `get_entities`, with ends one past the last word.
BROKEN = {
    "B-A I-A O B-B": [("A", 0, 2), ("B", 3, 4)],
    "I-A I-A O I-B": [("A", 0, 2), ("B", 3, 4)],
    "B-A B-A I-A": [("A", 0, 1), ("A", 1, 3)],
    "B-A I-B I-A": [("A", 0, 1), ("B", 1, 2), ("A", 2, 3)],
    "B-A E-A I-A E-A": [("A", 0, 2), ("A", 2, 4)],
    "S-A S-A E-A": [("A", 0, 1), ("A", 1, 2), ("A", 2, 3)],
    "B-A S-A O": [("A", 0, 1), ("A", 1, 2)],
    "O E-A O": [("A", 1, 2)],
    "B-A I-A": [("A", 0, 2)],
    "B I E S O B": [("_", 0, 3), ("_", 3, 4), ("_", 5, 6)],
    "B-A-B I-A-B": [("A-B", 0, 2)],
    "B- I-": [("_", 0, 2)],
}


@pytest.mark.parametrize("tags", BROKEN)
def test_entities_of_broken_schemes(tags):
    assert entities(tags.split()) == BROKEN[tags]


@pytest.mark.parametrize("tags", BROKEN)
def test_they_are_what_seqeval_says(tags):
    labeling = pytest.importorskip("seqeval.metrics.sequence_labeling")
    found = [(kind, start, end + 1) for kind, start, end in labeling.get_entities(tags.split())]
    assert found == BROKEN[tags]


def test_what_is_in_no_scheme_is_outside():
    # Converted taggers have such labels; seqeval makes entities of them, and warns.
    assert entities(["X", "B-PER", "I-PER", "X", "[SEP]"]) == [("PER", 1, 3)]
    assert entities(["B-PER", "X", "I-PER", "X-PER"]) == [("PER", 0, 1), ("PER", 2, 3)]
    assert entities(["PAD", "<pad>", "BN", "", "B-"]) == [("_", 4, 5)]


def test_letters_of_other_schemes_mean_the_same():
    assert entities(["B-A", "M-A", "E-A", "S-A"]) == [("A", 0, 3), ("A", 3, 4)]
    assert entities(["B-A", "I-A", "L-A", "U-A"]) == [("A", 0, 3), ("A", 3, 4)]


def test_plain_tags_are_one_word_each():
    assert single_words(["NN", "NN", "O", "B-X"]) == [("NN", 0, 1), ("NN", 1, 2), ("B-X", 3, 4)]


def sequences(prefixes, seed, count=40):
    """Random ones, most of which keep to no rule."""
    rng = random.Random(seed)
    tags = ["O", *(f"{prefix}-{kind}" for prefix in prefixes for kind in ("PER", "LOC", "A-B"))]
    return [rng.choices(tags, k=1 + number % 12) for number in range(count)]


@pytest.mark.parametrize("name", SCHEMES)
def test_scores_are_those_of_seqeval(name):
    seqeval = pytest.importorskip("seqeval.metrics", reason="pip install bert_jax[dev]")
    true, said = sequences(SCHEMES[name], 0), sequences(SCHEMES[name], 1)
    said[::2] = true[::2]
    found = scores.of_entities([*map(entities, true)], [*map(entities, said)])

    def theirs(tags):  # M is none of its letters
        return [[tag.replace("M-", "I-") for tag in row] for row in tags]

    both = (theirs(true), theirs(said))
    measures = (seqeval.precision_score, seqeval.recall_score, seqeval.f1_score)
    assert found.together == pytest.approx([measure(*both) for measure in measures], rel=1e-12)
    assert 0.3 < found.together.f1 < 0.9
    table = seqeval.classification_report(*both, output_dict=True, zero_division=0)
    for kind in ("PER", "LOC", "A-B"):
        one = [table[kind][key] for key in ("precision", "recall", "f1-score", "support")]
        assert [*found.types[kind], found.support[kind]] == pytest.approx(one, rel=1e-12)


def test_nothing_there_or_nothing_said_is_zero():
    some, none = [entities(["B-A"])], [entities(["O"])]
    assert scores.of_entities(some, none).together == (0, 0, 0)
    assert scores.of_entities(none, some).together == (0, 0, 0)
    assert scores.of_entities(none, none).together == (0, 0, 0)
    assert scores.of_entities(some, some).together == (1, 1, 1)
