"""Classes, sets of classes and values of texts: rows to batches, predictions to scores."""

import dataclasses

import numpy as np
import pytest
import small
from scipy import stats
from sklearn import metrics

from bert_jax.errors import InputError
from bert_jax.fields import build
from bert_jax.finetune_config import FinetuneConfig
from bert_jax.tasks import all_tasks
from bert_jax.tasks.classify import Classify
from bert_jax.tasks.multilabel import Multilabel
from bert_jax.tasks.regress import Regress
from bert_jax.tasks.task import Text
from bert_jax.text.labelled import LabelledText
from configs import finetune_sentiment

LABELS = ("bad", "good", "so so")


def config_of(**changes):
    values = finetune_sentiment.get_config("tiny")
    values.init_from = "runs/base"
    positive = changes.pop("positive_label", "")
    config = build(FinetuneConfig, values)
    data = dataclasses.replace(config.data, positive_label=positive)
    return dataclasses.replace(config, data=data, **changes)


DATA = config_of().data


def task_of(kind, *, labels=LABELS, max_length=8, overlap=0):
    return kind(labels, small.tokenizer(), max_length, overlap)


def row(text="a", label="good", pair=""):
    return LabelledText(text, pair, label, "file:1")


def pieces(example):
    return " ".join(small.PIECES[i] for i in example.tokens.ids)


def test_a_text_is_cut_and_counted():
    found = task_of(Classify).encode([row("a b c d e f"), row("a b c d e f g h")])
    wanted = "[CLS] a b c d e f [SEP]"
    assert [pieces(example) for example in found.examples] == [wanted, wanted]
    assert found.cut == {1: 10}


def test_a_pair_is_cut_on_its_longer_side():
    found = task_of(Classify).encode([row("a b", pair="c d e f g"), row("a b", pair="c")])
    assert [pieces(example) for example in found.examples] == [
        *("[CLS] a b [SEP] c d e [SEP]", "[CLS] a b [SEP] c [SEP]"),
    ]
    assert [example.tokens.second for example in found.examples] == [4, 4]
    assert found.cut == {0: 10}


def test_a_long_text_goes_into_windows_that_are_answered_together():
    task = task_of(Classify, overlap=2)
    rows = [row("a"), row("a b c d e f g h i")]
    found = task.encode(rows)
    assert [pieces(example) for example in found.examples] == [
        "[CLS] a [SEP]",
        "[CLS] a b c d e f [SEP]",
        "[CLS] e f g h i [SEP]",
    ]
    assert found.cut == {}
    predictions = [np.array(p, np.float32) for p in ([1, 0, 0], [0, 1, 0], [0, 0, 1])]
    answers = task.answers(rows, found.examples, predictions)
    assert [answer.tolist() for answer in answers] == [[1, 0, 0], [0, 0.5, 0.5]]


TARGETS = {
    Classify: ("so so", 2, [0, 2, 0]),
    Multilabel: (("bad", "so so"), [1, 0, 1], [[0, 0, 0], [1, 0, 1], [0, 0, 0]]),
    Regress: (2.5, 2.5, [0, 2.5, 0]),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_a_batch_holds_targets_and_fills_up_with_weight_0(kind):
    label, target, column = TARGETS[kind]
    task = task_of(kind)
    other = task.encode([task.row_of(Text("b", "", "here"))]).examples
    (example,) = task.encode([row(label=label)]).examples
    assert np.asarray(example.target).tolist() == target
    batch = task.batch([*other, example], 3, 8)
    assert np.asarray(batch[1]).tolist() == column
    assert batch.weights.tolist() == [1, 1, 0]
    assert batch.tokens.instances.sum(axis=1).tolist() == [3, 3, 0]


@pytest.mark.parametrize(("kind", "label"), [(Classify, "x"), (Multilabel, ("bad", "x"))])
def test_a_label_never_seen_names_the_line_and_the_known_ones(kind, label):
    with pytest.raises(InputError, match=r"file:1: label 'x' .*known: bad, good, so so"):
        task_of(kind).encode([row(label="good" if kind is Classify else ()), row(label=label)])


def test_balanced_classes_weigh_the_same():
    task = task_of(Classify)
    examples = task.encode([row(label=label) for label in ("bad", "good", "bad", "bad")]).examples
    found = task.balanced(examples)
    assert [example.weight for example in found] == [2 / 3, 2, 2 / 3, 2 / 3]
    assert task.batch(found, 5, 8).weights.tolist() == pytest.approx([2 / 3, 2, 2 / 3, 2 / 3, 0])


def test_labels_are_those_of_the_training_rows():
    rows = [row(label=label) for label in ("b", "a", "b")]
    assert Classify.find_labels(rows, DATA) == ("a", "b")
    sets = [row(label=label) for label in (("b",), (), ("a", "b"))]
    assert Multilabel.find_labels(sets, DATA) == ("a", "b")
    assert Classify.find_labels([row(label=n) for n in ("10", "9", "0")], DATA) == ("0", "9", "10")
    assert Classify.find_labels([row(label=n) for n in ("10", "9", "a")], DATA) == ("10", "9", "a")
    assert Regress.find_labels([row(label=0.5)], DATA) == ("value",)


BAD = [
    (Classify, ["a", "a"], "has the one label 'a': two are needed"),
    (Classify, ["1", "2.5", "3"], r"file:1: the label '2\.5' .* set config\.task=regress"),
    (Classify, ["n/a", "3.5", "4.25", "2.125"], r"file:1: the label '3\.5' .*task=regress"),
    (Multilabel, [(), ()], "has no label in field 'label'"),
]


@pytest.mark.parametrize(("kind", "labels", "message"), BAD)
def test_labels_that_do_not_do(kind, labels, message):
    with pytest.raises(InputError, match=message):
        kind.find_labels([row(label=label) for label in labels], DATA)


def test_numbers_may_be_classes():
    for labels in (("1.0", "0.0"), ("1", "2.5", "many")):
        found = Classify.find_labels([row(label=label) for label in labels], DATA)
        assert found == tuple(sorted(labels))


def test_the_positive_label_is_one_of_them():
    data = config_of(positive_label="yes").data
    with pytest.raises(InputError, match=r"positive_label='yes' is none .*choose one of a, b"):
        Classify.find_labels([row(label="a"), row(label="b")], data)


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (
            ("contradiction", "neutral"),
            [
                "                 contradiction  neutral",
                "  contradiction          1,000        2",
                "        neutral              3  999,999",
            ],
        ),
        (
            ("a", "好评"),
            [
                "            a     好评",
                "     a  1,000        2",
                "  好评      3  999,999",
            ],
        ),
    ],
)
def test_confusion_is_printed_as_wide_as_it_is(labels, wanted):
    task = Classify(labels, small.tokenizer(), 16, 0)
    result = {"labels": list(labels), "confusion": [[1000, 2], [3, 999_999]]}
    assert task.report(result)[1:] == wanted


@pytest.mark.parametrize(("count", "lines"), [(12, 14), (13, 1)])
def test_confusion_of_many_classes_is_in_the_report(count, lines):
    labels = tuple(f"l{number}" for number in range(count))
    task = Classify(labels, small.tokenizer(), 16, 0)
    said = task.report({"labels": list(labels), "confusion": [[0] * count] * count})
    assert len(said) == lines
    assert (said == ["confusion of 13 classes: see report.md"]) == (count == 13)


CONFIGS = [
    ({"task": "classify", "metric": "pearson"}, "choose one of accuracy, macro_f1, f1, matthews"),
    ({"task": "regress", "metric": "accuracy"}, "choose one of pearson, spearman, mse"),
    ({"task": "classify", "metric": "f1"}, r"config\.data\.positive_label, which is empty"),
    ({"task": "regress", "metric": "mse", "class_weights": "balanced"}, r"class_weights=balanced"),
    ({"task": "classfy"}, r"config\.task='classfy' is not known; did you mean classify\?"),
    ({"task": "parse"}, "choose one of classify, "),
]


@pytest.mark.parametrize(("changes", "message"), CONFIGS)
def test_what_a_task_has_not_is_refused(changes, message):
    config = config_of(**changes)
    with pytest.raises(InputError, match=message):
        all_tasks.named(config.task).check(config)


def draws(count=40, classes=3):
    rng = np.random.default_rng(0)
    return rng.dirichlet(np.ones(classes), count).astype(np.float32), rng


def test_scores_of_classes_are_those_of_scikit_learn():
    answers, rng = draws()
    truth = rng.integers(2, size=40)  # the third class is predicted and never true
    rows = [row(label=LABELS[n]) for n in truth]
    found = task_of(Classify).score(rows, list(answers), config_of(positive_label="good").data)
    chosen = answers.argmax(1)
    likelihoods = [row[n] for row, n in zip(answers, truth, strict=True)]
    assert found == pytest.approx(
        {
            "accuracy": (chosen == truth).mean(),
            "macro_f1": metrics.f1_score(truth, chosen, average="macro", zero_division=0),
            "f1": metrics.f1_score(truth == 1, chosen == 1),
            "matthews": metrics.matthews_corrcoef(truth, chosen),
            "loss": -np.log(likelihoods).mean(),
        }
    )
    assert "f1" not in task_of(Classify).score(rows, list(answers), DATA)


def test_a_class_that_no_row_has_or_is_given_is_left_out_of_the_mean():
    answers, _ = draws(classes=2)
    answers = np.pad(answers, [(0, 0), (0, 1)])
    truth = np.arange(40) % 2
    rows = [row(label=LABELS[n]) for n in truth]
    found = task_of(Classify).score(rows, list(answers), DATA)
    expected = metrics.f1_score(truth, answers.argmax(1), average="macro")
    assert found["macro_f1"] == pytest.approx(expected)


def test_one_class_on_both_sides_has_no_correlation():
    found = task_of(Classify).score([row()], [np.array([0, 1, 0], np.float32)], DATA)
    assert (found["accuracy"], found["matthews"]) == (1, 0)


@pytest.mark.parametrize("classes", [3, 1])
def test_scores_of_sets_are_those_of_scikit_learn(classes):
    rng = np.random.default_rng(1)
    answers = rng.random((40, classes)).astype(np.float32)
    truth = rng.integers(2, size=(40, classes))
    labels = LABELS[:classes]
    rows = [row(label=tuple(np.array(labels)[t == 1].tolist())) for t in truth]
    found = task_of(Multilabel, labels=labels).score(rows, list(answers), DATA)
    chosen = (answers >= 0.5).astype(int)
    per_class = [metrics.f1_score(truth[:, n], chosen[:, n]) for n in range(classes)]
    assert found == pytest.approx(
        {
            "micro_f1": metrics.f1_score(truth.ravel(), chosen.ravel()),
            "macro_f1": np.mean(per_class),
            "accuracy": (chosen == truth).all(axis=1).mean(),
            "loss": metrics.log_loss(truth.ravel(), answers.ravel().astype(np.float64)),
        },
        rel=1e-5,
    )


def test_scores_of_values_are_those_of_scipy():
    rng = np.random.default_rng(2)
    truth = rng.integers(6, size=30).astype(float)  # with ties
    answers = rng.normal(truth).astype(np.float32)
    found = task_of(Regress).score([row(label=t) for t in truth.tolist()], list(answers), DATA)
    wanted = {
        "pearson": stats.pearsonr(truth, answers).statistic,
        "spearman": stats.spearmanr(truth, answers).statistic,
        "mse": metrics.mean_squared_error(truth, answers),
    }
    assert found == pytest.approx(wanted, rel=1e-6)


def test_values_without_a_spread_have_no_correlation():
    rows = [row(label=1.0), row(label=3.0)]
    found = task_of(Regress).score(rows, [np.float32(1)] * 2, DATA)
    assert found == {"pearson": 0, "spearman": 0, "mse": 2}


BLIND = {
    Classify: (["good", "good", "bad", "good"], [0.25, 0.75, 0]),
    Multilabel: ([("bad",), ("bad", "good")], [1, 0.5, 0]),
    Regress: ([1.0, 4.0], 2.5),
}


@pytest.mark.parametrize("kind", BLIND)
def test_who_reads_nothing_answers_with_the_frequencies(kind):
    labels, wanted = BLIND[kind]
    task = task_of(kind)
    known = [row(label=label) for label in labels]
    found = task.blind(known, known[:1])
    assert np.array(found).tolist() == [wanted]
    task.score(known[:1], found, DATA)


def test_an_answer_as_it_is_shown():
    one, two = row("a b"), row("a", pair="b")
    probabilities = np.array([0.25, 0.5, 0.25], np.float32)
    named = dict(zip(LABELS, probabilities.tolist(), strict=True))
    assert task_of(Classify).shown(one, probabilities) == {
        **{"text": "a b", "label": "good"},
        "probabilities": named,
    }
    assert task_of(Multilabel).shown(two, probabilities) == {
        **{"text": "a", "pair": "b", "labels": ["good"]},
        "probabilities": named,
    }
    assert task_of(Regress).shown(two, np.float32(1.5)) == {"text": "a", "pair": "b", "value": 1.5}
