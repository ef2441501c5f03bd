"""Questions to windows, logits to answers in the words of the text, and their scores."""

import dataclasses
import json
import math
import tracemalloc
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from hypothesis import given
from hypothesis import strategies as st
from unit.test_config import FINETUNE

from bert_jax.arrays import SpanBatch, Tokens
from bert_jax.data.spans import most_context
from bert_jax.errors import InputError
from bert_jax.fields import build
from bert_jax.finetune_config import FinetuneConfig, LabelledDataConfig
from bert_jax.tasks import evaluation_plots, span_scores
from bert_jax.tasks.scores import standard_errors
from bert_jax.tasks.span import END, NONE, START, SpanTask
from bert_jax.tasks.span_decoding import Candidates, Span, decode, longest_answer
from bert_jax.tasks.task import Text
from bert_jax.text import wordpiece
from bert_jax.text.squad import Answer, Question

WORDS = ("steve", "smith", "'", "##s", "s", "cafe", "北", "京", "市", ".", "who")
PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *"abcdefghijk")
TOKENIZER = wordpiece.WordPiece(PIECES, small.tokenizer().settings, "test")
DATA = build(LabelledDataConfig, FINETUNE["data"])


def make(max_length=32, overlap=0, labels=(START, END)):
    return SpanTask(labels, TOKENIZER, max_length, overlap)


def ask(context, answer="", question="who"):
    answers = (Answer(answer, context.index(answer)),) if answer else ()
    return Question("q", context, question, answers, "here")


def pieces(example):
    return [PIECES[i] for i in example.tokens.ids]


LABELS = {
    "an apostrophe": ("Steve Smith's", "Steve Smith", ["steve", "smith"]),
    "chinese": ("北京市", "北京", ["北", "京"]),
    "an accent": ("Cafés.", "Café", ["cafe"]),
    "part of a word": ("Steve Smiths", "Smith", ["smith"]),
    "part of a piece": ("Steve Smith.", "eve Smi", ["steve", "smith"]),
    "between pieces": ("steve smith.", " smith", ["smith"]),
}


@pytest.mark.parametrize(("context", "answer", "wanted"), LABELS.values(), ids=LABELS)
def test_an_answer_is_the_pieces_that_hold_it(context, answer, wanted):
    (example,) = make().encode([ask(context, answer)]).examples
    assert pieces(example)[example.start : example.end + 1] == wanted


def test_windows_overlap_and_point_to_cls_without_the_answer():
    encoded = make(8, 2).encode([ask("a b c d e f g h i j", "c d")])
    assert [" ".join(pieces(example)) for example in encoded.examples] == [
        f"[CLS] who [SEP] {window} [SEP]" for window in ("a b c d", "c d e f", "e f g h", "g h i j")
    ]
    places = [(example.start, example.end) for example in encoded.examples]
    assert places == [(5, 6), (3, 4), (0, 0), (0, 0)]
    assert [example.first for example in encoded.examples] == [3] * 4
    assert encoded.cut == {}


def test_an_answer_that_a_window_cuts_is_not_in_it():
    examples = make(8, 2).encode([ask("a b c d e f", "d e")]).examples
    assert [(example.start, example.end) for example in examples] == [(0, 0), (4, 5)]


def test_without_overlap_the_context_is_cut_and_it_is_told():
    rows = [ask("a b", "b"), ask("a b c d e f g h i j", "j")]
    encoded = make(8).encode(rows)
    assert [(e.row, e.start) for e in encoded.examples] == [(0, 4), (1, 0)]
    assert encoded.cut == {1: 14}  # ten, the question and three special ones


@pytest.mark.parametrize(("max_length", "kept"), [(384, 64), (16, 6)])
def test_a_long_question_leaves_room(max_length, kept):
    (example,), cut = make(max_length).encode([ask("a b", "b", "a " * 100)])
    assert example.first == kept + 2
    assert cut == {0: 105}
    assert pieces(example)[-3:] == ["a", "b", "[SEP]"]


@pytest.mark.parametrize(("pieces", "cut"), [(64, {}), (65, {0: 70})])
@pytest.mark.parametrize("overlap", [0, 16])
def test_a_question_that_is_cut_is_told(overlap, pieces, cut):
    assert make(384, overlap).encode([ask("a b", "b", "a " * pieces)]).cut == cut


@pytest.mark.parametrize(
    ("question", "context", "overlap", "wanted"),
    [
        (65, 2, 8, "has a question of 65 pieces, of which 64 are read"),
        (65, 500, 0, "has a question of 65 pieces, of which 64 are read"),
        (64, 500, 0, "has 567 tokens and the model takes 384"),
    ],
)
def test_what_is_cut_is_said(question, context, overlap, wanted):
    row, task = ask("a " * context, question="b " * question), make(384, overlap)
    assert task.cut_of(row, task.encode([row]).cut[0]) == wanted


def test_a_batch_is_filled_up():
    task = make()
    batch = task.batch(task.encode([ask("a b", "b")]).examples, 2, 16)
    assert (batch.starts.tolist(), batch.ends.tolist()) == ([4, 0], [4, 0])
    assert batch.weights.tolist() == [1, 0]
    assert batch.tokens.ids.shape == (2, 16)


def test_most_context_as_published():
    # "the man went to the / to the store and bought / and bought a gallon of", run_squad.py:
    # "bought" belongs to the last, where it has one word to its left and three to its right.
    found = [part.tolist() for part in most_context([(0, 5), (3, 8), (6, 11)])]
    assert found == [
        [True, True, True, True, False],
        [False, True, True, True, False],
        [False, True, True, True, True],
    ]


def test_of_equal_context_the_longer_window_and_then_the_first():
    first, second = most_context([(0, 4), (1, 6)])
    assert (first.tolist(), second.tolist()) == (
        [True, True, False, False],
        [False, True, True, True, True],
    )
    first, second = most_context([(0, 3), (2, 5)])
    assert (first[2], second[0]) == (True, False)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), min_size=1, max_size=12))
def test_of_any_windows_each_piece_is_compared_with_all(parts):
    parts = [(start, start + size) for start, size in parts]
    for number, found in enumerate(most_context(parts)):
        for piece, has_most in enumerate(found, parts[number][0]):
            context = [
                min(piece - start, end - 1 - piece) + 0.01 * (end - start)
                if start <= piece < end
                else -1
                for start, end in parts
            ]
            assert has_most == (context.index(max(context)) == number)


def test_a_very_long_context_takes_little_memory():
    parts = [(start, start + 381) for start in range(0, 200_000, 128)]
    tracemalloc.start()
    found = most_context(parts)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(map(len, found)) == 381 * len(parts)
    assert peak < 32 * 200_000  # windows times pieces are 312 million


def logits_of(example, **scores):
    """Zeros but for `piece=(first, last)`."""
    logits = np.zeros((len(example.tokens.ids), 2), np.float32)
    for piece, values in scores.items():
        logits[pieces(example).index(piece.replace("CLS", "[CLS]"))] = values
    return logits


def decoded(task, row, *scores):
    examples = task.encode([row]).examples
    logits = [logits_of(example, **one) for example, one in zip(examples, scores, strict=True)]
    return task.answers([row], examples, logits)[0]


TEXTS = {
    "an apostrophe": ("Steve Smith's", "steve", "smith", "Steve Smith"),
    "chinese": ("在北京市。", "北", "京", "北京"),
    "an accent": ("The Café.", "cafe", "cafe", "Café"),
    "an accent apart": ("The Cafe\u0301.", "cafe", "cafe", "Cafe\u0301"),
    "spaces": ("x Steve \t SMITH .", "steve", "smith", "Steve \t SMITH"),
}


@pytest.mark.parametrize(("context", "first", "last", "wanted"), TEXTS.values(), ids=TEXTS)
def test_an_answer_is_in_the_words_of_the_text(context, first, last, wanted):
    scores = {first: (5, 0)} | {last: (0, 5)} if first != last else {first: (5, 5)}
    row = ask(context)
    best = decoded(make(), row, scores).spans[0]
    assert best == Span(wanted, context.index(wanted), context.index(wanted) + len(wanted), 10.0)


def test_only_the_window_with_most_context_begins_an_answer():
    task, row = make(9, 2), ask("a b c d e f g h i j k")
    found = decoded(task, row, {}, {"h": (9, 9)}, {"h": (5, 5)})
    assert (found.spans[0].text, found.spans[0].score) == ("h", 10.0)


def test_neither_question_nor_special_tokens_are_answers():
    found = decoded(make(), ask("a b"), {"who": (9, 9), "CLS": (7, 1), "b": (1, 1)})
    assert [span.text for span in found.spans] == ["b", "a b", "a"]
    assert found.none == 8.0


@pytest.mark.parametrize(("last", "score"), [(29, 10.0), (30, 5.0), (0, 5.0)])
def test_an_answer_has_thirty_tokens_at_most_and_ends_after_it_begins(last, score):
    task, row = make(64), ask("a " * 40)
    (example,) = task.encode([row]).examples
    logits = np.zeros((example.length, 2), np.float32)
    begin = 0 if last else 1
    logits[example.first + begin, 0] = logits[example.first + last, 1] = 5
    assert decode(row.context, [example], [logits]).spans[0].score == score


@pytest.mark.parametrize(("last", "score"), [(39, 10.0), (49, 10.0), (50, 5.0)])
def test_an_answer_in_chinese_has_fifty_characters_at_most(last, score):
    # Words of other languages do not make the text less Chinese.
    context = "Steve Smith 2008 " + "北" * 60
    task, row = make(96), ask(context)
    (example,) = task.encode([row]).examples
    logits = np.zeros((example.length, 2), np.float32)
    first = example.first + pieces(example)[example.first :].index("北")
    logits[first, 0] = logits[first + last, 1] = 5
    best = decode(context, [example], [logits]).spans[0]
    assert best.score == score
    assert score == 5 or best.text == "北" * (last + 1)


def test_a_chinese_name_makes_no_chinese_context():
    assert longest_answer("Beijing (北京) is a city.") == 30
    assert longest_answer("Windows 10是一个系统") == 50
    assert longest_answer("") == 30


def test_no_answer_is_what_the_least_certain_window_says():
    found = decoded(make(8, 2), ask("a b c d e f"), {"CLS": (4, 3)}, {"CLS": (1, 1)})
    assert found.none == 2.0


def test_a_text_counts_once_by_its_best_place():
    found = decoded(make(), ask("a b . b"), {"b": (2, 2)})
    assert [span.text for span in found.spans].count("b") == 1
    assert found.spans[0] == Span("b", 2, 3, 4.0)


def test_a_context_without_a_piece_has_no_answer():
    row = ask("\u200b")
    (example,) = make().encode([row]).examples
    assert pieces(example) == ["[CLS]", "who", "[SEP]", "[SEP]"]
    found = decode(row.context, [example], [np.zeros((4, 2), np.float32)])
    assert found == Candidates((), 0.0)
    assert make().shown(row, found)["answer"] == ""


def test_the_best_twenty_are_kept():
    row = ask("a b c d e f g h i j k")
    (example,) = make().encode([row]).examples
    logits = np.random.default_rng(0).normal(size=(example.length, 2)).astype(np.float32)
    found = decode(row.context, [example], [logits]).spans
    pairs = [
        float(logits[3 + i, 0]) + float(logits[3 + j, 1]) for i in range(11) for j in range(i, 11)
    ]
    np.testing.assert_allclose(
        [span.score for span in found], sorted(pairs, reverse=True)[:20], rtol=1e-6
    )


SOME = Candidates((Span("北", 0, 1, 1.0), Span("京", 1, 2, 0.0)), 2.0)


def test_a_prediction_says_where_and_how_probable():
    row = ask("北京市")
    shown = make().shown(row, SOME)
    assert {name: shown[name] for name in ("text", "pair", "answer", "start", "end")} == {
        "text": "北京市", "pair": "who", "answer": "北", "start": 0, "end": 1,
    }  # fmt: skip
    assert shown["probability"] == pytest.approx(math.e / (math.e + 1))
    assert [one["answer"] for one in shown["best"]] == ["北", "京"]
    shown = make(labels=(START, END, NONE)).shown(row, SOME)
    assert (shown["answer"], shown["start"], shown["end"]) == ("", 0, 0)
    assert shown["probability"] == pytest.approx(math.e**2 / (math.e**2 + math.e + 1))
    assert [one["answer"] for one in shown["best"]] == ["", "北", "京"]


def test_a_question_is_needed():
    with pytest.raises(InputError, match=r"^here has no question: give --pair"):
        make().row_of(Text("北京市", "", "here"))


def test_the_loss_by_hand_without_padding():
    instances = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], np.int32)
    batch = SpanBatch(
        Tokens(*[instances] * 4), np.array([1, 0]), np.array([2, 1]), np.array([1.0, 1.0])
    )
    outputs = jnp.array([[[0.0, 0.0]] * 4, [[0.0, 0.0]] * 2 + [[50.0, 50.0]] * 2])
    outputs = outputs.at[0, 2, 1].set(math.log(3))  # the last token of the first row: 3 of 6
    losses, _ = make().losses(outputs, jax.tree.map(jnp.asarray, batch))
    rows = [(math.log(4) + math.log(2)) / 2, math.log(2)]
    assert float(losses["loss"].total) == pytest.approx(sum(rows), rel=1e-6)
    assert float(losses["loss"].weight) == 2


def test_labels_say_whether_there_may_be_no_answer():
    some, none = ask("a b", "b"), ask("a b")
    assert SpanTask.find_labels([some], DATA) == (START, END)
    assert SpanTask.find_labels([some, none], DATA) == (START, END, NONE)
    with pytest.raises(InputError, match=r"^a\.csv holds no question with an answer"):
        SpanTask.find_labels([none], DATA)


def test_a_config_names_the_field_of_questions():
    values = FINETUNE | {"task": "span", "metric": "f1"}
    with pytest.raises(InputError, match=r"config\.data\.pair_field is empty"):
        SpanTask.check(build(FinetuneConfig, values))
    SpanTask.check(
        build(FinetuneConfig, values | {"data": FINETUNE["data"] | {"pair_field": "question"}})
    )


def test_who_reads_nothing_gives_the_most_frequent_answer():
    known = [ask("a b", "b"), ask("b", "b"), ask("a", "a"), ask("a"), ask("a")]
    (found,) = make().blind(known, [ask("c")])
    assert found.ranked(may_be_none=True)[0].text == "b"
    (found,) = make().blind([*known, ask("b")], [ask("c")])
    assert found.ranked(may_be_none=True)[0].text == ""
    assert found.ranked(may_be_none=False)[0].text == "b"


# The definitions: 2 * shared / (parts of one + parts of the other).
SCORES = [
    ("squad", "The  Eiffel Tower!", ["eiffel tower"], 1, 1),
    ("squad", "big red dog", ["cat", "red dog"], 0, 4 / 5),
    ("squad", "to be or to be", ["to be to"], 0, 6 / 8),
    ("squad", "dog red", ["red dog"], 0, 1),
    ("squad", "theory", ["ory"], 0, 0),
    ("squad", "the", ["a"], 1, 0),  # of two answers without a word
    ("cmrc", "北京市", ["北京"], 0, 4 / 5),
    ("cmrc", "京北", ["北京"], 0, 2 / 4),  # runs, in order
    ("cmrc", "北方的京", ["西安", "北京"], 0, 2 / 6),
    ("cmrc", "《红楼梦》", ["红楼梦"], 1, 1),
    ("cmrc", "1,998.5 年 Windows", ["1,998.5年windows"], 0, 1),
    ("cmrc", "ω-force公司", ["光荣和ω-force"], 0, 2 / 7),
    ("cmrc", "西安", ["北京"], 0, 0),
]


@pytest.mark.parametrize(("rules", "text", "right", "exact", "f1"), SCORES)
def test_exact_match_and_f1_by_hand(rules, text, right, exact, f1):
    found = span_scores.score(text, tuple(right), span_scores.RULES[rules], with_none=False)
    assert found == (exact, pytest.approx(f1))


@pytest.mark.parametrize(
    ("text", "right", "wanted"),
    [
        ("", [], 1),
        ("x", [], 0),
        ("", ["x"], 0),
        ("the", ["a"], 1),
        ("", ["the"], 1),
        ("", ["the", "x"], 0),
    ],
)
def test_no_answer_is_right_where_there_is_none(text, right, wanted):
    rules = span_scores.RULES["squad"]
    assert span_scores.score(text, tuple(right), rules, with_none=True) == (wanted, wanted)


def candidates(text, margin):
    return Candidates((Span(text, 0, len(text), 1.0),), 1.0 + margin)


def test_the_metrics_of_squad_2_by_hand():
    rows = [("x", ("x",), -2.0), ("z", ("y",), -1.0), ("w", (), 1.0), ("v", (), -0.5)]
    answers = [candidates(text, margin) for text, _, margin in rows]
    right = [one for _, one, _ in rows]
    found = span_scores.of_answers(right, answers, span_scores.RULES["squad"])
    # x is right, z and v wrong, w not said. Up to -2 alone x is said: three of four.
    names = ("exact_match", "f1")
    assert found == {
        **dict.fromkeys(names, 0.5),
        **{f"answerable_{name}": 0.5 for name in names},
        "unanswerable_accuracy": 0.5,
        **{f"best_{name}": 0.75 for name in names},
        **{f"best_{name}_threshold": -2.0 for name in names},
    }
    # x is not said where none is likelier: predictions.json has "" there, and no threshold an x.
    answers = [candidates("v", 2.0), candidates("x", 1.0)]
    found = span_scores.of_answers([(), ("x",)], answers, span_scores.RULES["squad"])
    assert (found["f1"], found["best_f1"], found["best_f1_threshold"]) == (0.5, 0.5, 0.0)
    # To say x, one has to say v before.
    answers = [candidates("v", -2.0), candidates("x", -1.0)]
    found = span_scores.of_answers([(), ("x",)], answers, span_scores.RULES["squad"])
    assert (found["f1"], found["best_f1"], found["best_f1_threshold"]) == (0.5, 0.5, 0.0)
    never = span_scores.of_answers([()], [candidates("w", -1.0)], span_scores.RULES["squad"])
    assert (never["f1"], never["best_f1"], never["best_f1_threshold"]) == (0.0, 1.0, 0.0)


def test_where_all_have_an_answer_one_is_given():
    found = span_scores.of_answers([("x",)], [candidates("x", 9.0)], span_scores.RULES["squad"])
    assert found == {"exact_match": 1.0, "f1": 1.0}


@given(st.lists(st.integers(0, 3), max_size=3), st.integers(0, 3), st.booleans())
def test_the_best_is_the_first_of_all(scores, none, may_be_none):
    spans = tuple(Span("x", 0, 1, float(s)) for s in sorted(scores, reverse=True))
    found = Candidates(spans, float(none))
    assert found.best(may_be_none=may_be_none) == found.ranked(may_be_none=may_be_none)[0]


def test_the_bootstrap_scores_no_pair_twice():
    seen = Counter()

    def parts(text):
        seen[text] += 1
        return text.split()

    rules = span_scores.Rules(str, parts, span_scores.words_shared)
    answers, right = [candidates("x", 0.0), candidates("y z", 0.0)], [("w",), ("z",)]

    def score(drawn):
        return span_scores.of_answers([right[n] for n in drawn], [answers[n] for n in drawn], rules)

    assert set(standard_errors(score, 2)) == {"exact_match", "f1"}
    assert seen == dict.fromkeys(("x", "y z", "w", "z"), 1)


def test_what_the_official_scripts_read():
    rows = [ask("x", "x")._replace(id="a"), ask("y")._replace(id="b")]
    answers = [candidates("x", -1.0), candidates("y", 0.5)]
    assert {name: json.loads(text) for name, text in make().files(rows, answers).items()} == {
        "predictions.json": {"a": "x", "b": ""},
        "null_odds.json": {"a": -1.0, "b": 0.5},
    }
    assert make().files(rows[:1], answers[:1]) == {"predictions.json": '{"a": "x"}'}


def test_findings_name_wrong_answers_the_surest_first(monkeypatch):
    monkeypatch.setattr(evaluation_plots, "draw_reliability", lambda *_: b"")
    rows = [ask("a b", "b"), ask("a b c d e f g h i j", "c"), ask("c"), ask("The b.", "The b.")]
    spans = [("a", 0.0, -9.0), ("c", 0.0, -9.0), ("c", 0.0, -1.0), ("b", 0.0, -9.0)]
    answers = [Candidates((Span(text, 0, 1, score),), none) for text, score, none in spans]
    for overlap in (0, 2):
        task = make(8, overlap)
        *_, mistakes, lengths = task.findings(rows, task.encode(rows), answers, DATA)
        assert [line[:4] for line in mistakes.rows] == [
            ("a b", "who", "b", "a"),
            ("c", "who", "–", "c"),
        ]
        chances = [1 / (1 + math.exp(none)) for none in (-9, -1)]
        assert [line[4] for line in mistakes.rows] == pytest.approx(chances)
        assert [line[:3] for line in lengths.rows] == [
            ("5 to 5", 1, 0.0),
            ("6 to 6", 1, 0.0),
            ("7 to 7", 1, 1.0),
            ("14 to 14", 1, 1.0),
        ]
    # Where every row has an answer, none is no answer.
    *_, mistakes, _ = task.findings(rows[:2], task.encode(rows[:2]), answers[:2], DATA)
    assert [line[4] for line in mistakes.rows] == [1.0]


@pytest.mark.parametrize("answer_rules", ["squad", "cmrc"])
def test_findings_count_right_answers_by_the_rules_of_the_metrics(answer_rules, monkeypatch):
    monkeypatch.setattr(evaluation_plots, "draw_reliability", lambda *_: b"")
    data = dataclasses.replace(DATA, answer_rules=answer_rules)
    # Right by the one alone: without the article, without a mark of Chinese.
    rows = [ask("The b.", "The b"), ask("北京。", "北京。"), ask("《北京", "《北京")]
    answers = [candidates(text, -9.0) for text in ("b", "北京", "北京")]
    task = make()
    *_, lengths = task.findings(rows, task.encode(rows), answers, data)
    right = sum(count * share for _, count, share, _ in lengths.rows)
    assert right == pytest.approx({"squad": 1, "cmrc": 2}[answer_rules])
    assert task.score(rows, answers, data)["exact_match"] == pytest.approx(right / len(rows))
