"""Words to pieces, windows and back to words; what a model says as entities of the text."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from hypothesis import given
from hypothesis import strategies as st

from bert_jax.errors import InputError
from bert_jax.fields import build
from bert_jax.finetune_config import LabelledDataConfig
from bert_jax.tasks import scores
from bert_jax.tasks.tag import Answer, Prediction, TagWords
from bert_jax.tasks.task import Text
from bert_jax.text import tags
from bert_jax.text.conll import TaggedText
from bert_jax.text.words import written_words
from configs import finetune_ner

LABELS = ("O", "B-X", "I-X", "B-Y", "I-Y")
DATA = build(LabelledDataConfig, finetune_ner.get_config().data.to_dict())
LONG = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "a", "b", "c", "d"]


def task(max_length=16, overlap=0, labels=LABELS):
    return TagWords(labels, small.tokenizer(), max_length, overlap)


def row(words, tags=None, pieces="first", where="a.conll:1"):
    words = tuple(words.split() if isinstance(words, str) else words)
    return TaggedText(" ".join(words), words, tuple(tags or ["O"] * len(words)), pieces, where)


def names(ids):
    return [small.PIECES[i] for i in ids]


@pytest.mark.parametrize(
    ("pieces", "learnt"), [("first", [-1, 1, -1, -1, 2, -1]), ("all", [-1, 1, 2, 2, 2, -1])]
)
def test_pieces_of_a_word_learn_its_tag(pieces, learnt):
    (example,) = task().encode([row("aab 好", ["B-X", "I-X"], pieces)]).examples
    assert names(example.tokens.ids) == ["[CLS]", "a", "##a", "##b", "好", "[SEP]"]
    assert example.labels.tolist() == learnt
    assert example.words.tolist() == [-1, 0, -1, -1, 1, -1]


def test_a_batch_counts_the_pieces_that_learn():
    found = task().encode([row("aab 好", ["B-X", "I-X"]), row("c", ["B-Y"])])
    batch = task().batch(found.examples, 3, 16)
    assert batch.tokens.ids.shape == batch.labels.shape == (3, 16)
    assert batch.labels[0, :6].tolist() == [0, 1, 0, 0, 2, 0]
    assert np.argwhere(batch.weights == 1).tolist() == [[0, 1], [0, 4], [1, 1]]
    assert float(task().weights(jax.tree.map(jnp.asarray, batch))["loss"]) == 3


def test_a_word_without_a_piece_is_outside():
    words = ["a", "\u200b", "\x01", "b"]
    (example,) = task().encode([row(words, ["B-X", "I-X", "I-X", "I-X"])]).examples
    assert names(example.tokens.ids) == ["[CLS]", "a", "b", "[SEP]"]
    assert example.words.tolist() == [-1, 0, 3, -1]
    said = Prediction(np.array([0, 1, 2, 0]), np.full(4, 0.5, np.float32))
    (answer,) = task().answers([row(words)], [example], [said])
    assert answer.tags == ("B-X", "O", "O", "I-X")
    encoded = task().encode([row(["\x01"])])
    (answer,) = task().answers([row(["\x01"])], encoded.examples, [said])
    assert answer.tags == ("O",)


def test_without_windows_a_long_text_is_cut_and_counted():
    encoded = task(max_length=8).encode([row("a b"), row(LONG)])
    assert encoded.cut == {1: 16}
    assert names(encoded.examples[1].tokens.ids[1:-1]) == LONG[:6]


def test_windows_answer_where_they_see_most():
    # Windows of pieces 0-5, 3-8, 6-11 and 9-13: of the words in two of them, 3 sees more in the
    # first, 4 as much in both and 5 more in the second.
    encoded = task(max_length=8, overlap=3).encode([row(LONG)])
    assert not encoded.cut
    starts = [example.words[1] for example in encoded.examples]
    assert starts == [0, 3, 6, 9]
    said = []
    for number, example in enumerate(encoded.examples):
        sure = np.full(16, number, np.float32)  # which window it was
        said.append(Prediction(np.full(16, 1 + number % 2), sure))
        assert example.length <= 8
    (answer,) = task().answers([row(LONG)], encoded.examples, said)
    assert answer.probabilities.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert answer.tags == tuple("I-X" if p % 2 else "B-X" for p in answer.probabilities)


@given(st.lists(st.sampled_from(["a", "aa", "aab", "好", "\x01"]), max_size=40), st.integers(1, 4))
def test_every_word_with_a_piece_has_an_answer(words, overlap):
    rows = [row(words), row(["c"])]
    encoded = task(max_length=8, overlap=overlap).encode(rows)
    said = [Prediction(np.ones(16, int), np.ones(16, np.float32))] * len(encoded.examples)
    answers = task().answers(rows, encoded.examples, said)
    wanted = tuple("O" if word == "\x01" else "B-X" for word in words)
    assert [answer.tags for answer in answers] == [wanted, ("B-X",)]


def test_a_tag_outside_the_scheme_is_named_with_its_line():
    rows = [row("a b", ["O", "B-X"]), row("c d e", ["B-Y", "I-Y", "PER"], where="dir/a.conll:7")]
    message = r"^dir/a\.conll:9: tag 'PER' of 'e' is outside the scheme BIO of .*\(known: O, B-X, I"
    with pytest.raises(InputError, match=message):
        TagWords.find_labels(rows, DATA)
    with pytest.raises(InputError, match=message):
        task().encode(rows)
    with pytest.raises(InputError, match=r"^a\.jsonl:3: tag 'S-X' of 'b' is outside the scheme"):
        task().encode([row("a b", ["O", "S-X"], where="a.jsonl:3")])
    many = task(labels=tuple(f"B-{n:02}" for n in range(12)))
    with pytest.raises(InputError, match=r"\(known: B-00, .*, B-09 and 2 more\)"):
        many.encode([row("a", ["B-12"])])
    plain = task(labels=("NN", "VB"))
    with pytest.raises(InputError, match=r"^a\.conll:1: tag 'DT' of 'a' was never seen in train"):
        plain.encode([row("a", ["DT"])])


def test_labels_are_those_of_the_scheme():
    rows = [row("a", ["B-Y"]), row("b c", ["I-X", "O"])]
    assert TagWords.find_labels(rows, DATA) == LABELS
    assert TagWords.find_labels([row("a b", ["NN", "VB"])], DATA) == ("NN", "VB")
    with pytest.raises(InputError, match="has the tag 'B_X', and entities are read from tags such"):
        TagWords.find_labels([row("a b", ["B_X", "O"])], DATA)
    with pytest.raises(InputError, match="has the one tag 'O': two are needed"):
        TagWords.find_labels([row("a b")], DATA)


def answered(*tags):
    return [Answer(tuple(one.split()), np.ones(len(one.split()), np.float32)) for one in tags]


def test_scores_are_of_entities_and_of_words():
    rows = [row("a b c", ["B-X", "I-X", "O"]), row("d e", ["B-Y", "B-X"])]
    answers = answered("B-X I-X B-Y", "B-Y I-X")
    found = task().score(rows, answers, DATA)
    # The last is an I without a B, which is an entity all the same.
    assert found == pytest.approx({"precision": 3 / 4, "recall": 1, "f1": 6 / 7, "accuracy": 3 / 5})
    details = task().details(rows, answers)
    assert details["scheme"] == "BIO"
    assert details["types"]["X"] == {"precision": 1, "recall": 1, "f1": 1, "entities": 2}
    assert details["types"]["Y"] == pytest.approx(
        {"precision": 1 / 2, "recall": 1, "f1": 2 / 3, "entities": 1}
    )
    assert [line.split()[0] for line in task().report(details)] == ["type", "X", "Y"]


def test_the_bootstrap_reads_no_row_twice(monkeypatch):
    rng, seen = random.Random(0), []
    rows = [row("a b c d", rng.choices(LABELS, k=4)) for _ in range(30)]
    answers = [Answer(tuple(rng.choices(LABELS, k=4)), np.ones(4, np.float32)) for _ in rows]
    whole = scores.of_entities(
        [tags.entities(one.tags) for one in rows], [tags.entities(one.tags) for one in answers]
    )
    found = task().score(rows, answers, DATA)
    assert whole.together == (found["precision"], found["recall"], found["f1"])
    monkeypatch.setattr(tags, "entities", seen.append)

    def score(drawn):
        return task().score([rows[n] for n in drawn], [answers[n] for n in drawn], DATA)

    assert set(scores.standard_errors(score, 30)) == set(TagWords.METRICS)
    assert seen == []


def test_plain_tags_are_scored_word_by_word():
    plain = task(labels=("DT", "NN", "VB"))
    rows = [row("a b c", ["DT", "NN", "NN"])]
    found = plain.score(rows, answered("DT NN VB"), DATA)
    assert found == pytest.approx(dict.fromkeys(("precision", "recall", "f1", "accuracy"), 2 / 3))


def test_who_reads_nothing_says_the_most_frequent():
    known = [row("a b c", ["B-X", "O", "O"])]
    (answer,) = task().blind(known, [row("d e")])
    assert answer.tags == ("O", "O")


TEXT = "  中国a.b 好\tEU's  \U00020000x "


PLAIN_TEXTS = {
    "chinese": (TEXT, "中 国 a.b 好 EU 's \U00020000 x"),
    "nothing": (" \n", ""),
    "within a word": ("New-York AT&T a$b 1,998.5", "New-York AT&T a$b 1,998.5"),
    "around a word": ("(“EU”), $5...", "( “ EU ” ) , $ 5 . . ."),
    "abbreviations": ("U.N. U.S., J. Smith e.g. end.", "U.N. U.S. , J. Smith e.g. end ."),
    "no abbreviation": ("3.5. a... no.", "3.5 . a . . . no ."),
    "clitics": ("Bob’s 'em We'll it's, 's", "Bob ’s ' em We 'll it 's , ' s"),
    "marks of chinese": ("“EU，US北京”。（x）", "“ EU ， US 北 京 ” 。 （ x ）"),
    "combined": ("e\u0301, x", "e\u0301 , x"),
    "marks alone": ("-- ?", "- - ?"),
}


@pytest.mark.parametrize(("text", "wanted"), PLAIN_TEXTS.values(), ids=PLAIN_TEXTS)
def test_words_of_a_plain_text_are_those_of_corpora(text, wanted):
    assert [text[start:end] for start, end in written_words(text)] == wanted.split()


@given(st.text("ab'.-$s，北 U\t\u3000”", max_size=30))
def test_words_are_all_of_a_text_in_order(text):
    spans = written_words(text)
    assert all(start < end for start, end in spans)
    assert [*spans] == sorted(spans)
    assert "".join(text[start:end] for start, end in spans) == "".join(text.split())


def test_entities_are_told_by_characters():
    asked = task().row_of(Text(TEXT, "", "here"))
    assert asked.text == TEXT
    tags = ("B-X", "I-X", "O", "O", "B-Y", "I-Y", "I-X", "O")
    sure = np.array([0.5, 1, 1, 1, 0.25, 0.75, 0.125, 1], np.float32)
    shown = task().shown(asked, Answer(tags, sure))
    assert shown["text"] == TEXT
    found = [(e["type"], e["text"], e["probability"]) for e in shown["entities"]]
    assert found == [("X", "中国", 0.75), ("Y", "EU's", 0.5), ("X", "\U00020000", 0.125)]
    for entity in shown["entities"]:
        assert TEXT[entity["start"] : entity["end"]] == entity["text"]
    many = task(labels=tuple(f"B-{n:02}" for n in range(12)))
    with pytest.raises(InputError, match=r"\(known: B-00, .*, B-09 and 2 more\)"):
        many.encode([row("a", ["B-12"])])
    plain = task(labels=("NN", "VB"))
    shown = plain.shown(asked, Answer(("NN",) * len(tags), sure))
    assert [e["text"] for e in shown["entities"]][:3] == ["中", "国", "a.b"]


@given(st.text("ab好 .\u200b\x01\t中é", max_size=30))
def test_any_text_is_answered_within_itself(text):
    asked = task().row_of(Text(text, "", "here"))
    (example, *_), cut = task(max_length=128).encode([asked])
    assert not cut
    said = Prediction(np.ones(128, int), np.ones(128, np.float32))
    (answer,) = task().answers([asked], [example], [said])
    for entity in task().shown(asked, answer)["entities"]:
        part = text[entity["start"] : entity["end"]]
        assert part == entity["text"]
        assert part.strip() == part != ""


def test_a_second_text_is_refused():
    with pytest.raises(InputError, match=r"^here has a second text and the model takes single"):
        task().row_of(Text("a", "b", "here"))


def test_findings_name_wrong_entities_the_surest_first():
    rows = [
        row("a b c", ["B-X", "I-X", "O"]),
        row("d e", ["B-Y", "B-X"], where="a.conll:9"),
        row(LONG),
    ]
    sure = [[0.5, 0.75, 0.5], [0.25, 0.25], [1.0] * len(LONG)]
    said = ["B-X O B-Y", "B-Y B-Y", " ".join(["O"] * len(LONG))]
    answers = [
        Answer(tuple(one.split()), np.array(p, np.float32))
        for one, p in zip(said, sure, strict=True)
    ]
    for overlap in (0, 3):
        one = task(max_length=8, overlap=overlap)
        types, _, bins, mistakes, lengths = one.findings(rows, one.encode(rows), answers, DATA)
        assert [line[1:] for line in bins.rows] == [(2, 0.25, 0.5), (2, 0.5, 0.0)]
        assert [line[0] for line in types.rows] == ["X", "Y"]
        assert types.rows[1][1:] == pytest.approx((1 / 3, 1, 1 / 2, 1))
        assert mistakes.rows == [
            ("a b c", "X: a b", "X: a", 0.5, "a.conll:1"),
            ("a b c", "–", "Y: c", 0.5, "a.conll:3"),
            ("d e", "X: e", "Y: e", 0.25, "a.conll:10"),
        ]
        assert [line[:3] for line in lengths.rows] == [
            ("4 to 4", 1, 0.5),
            ("5 to 5", 1, pytest.approx(1 / 3)),
            ("16 to 16", 1, 1.0),
        ]
    silent = answered(*(" ".join(["O"] * len(row.words)) for row in rows))
    assert one.findings(rows, one.encode(rows), silent, DATA)[1].rows == []
