"""Reports of an evaluation: calibration by hand, what is in them, and how it is written."""

import re

import numpy as np
import pytest
import small
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_fscore_support

from bert_jax.tasks import evaluation_plots, evaluation_report, findings, scores
from bert_jax.tasks.calibration import Bin, expected_error, reliability
from bert_jax.tasks.classify import Classify
from bert_jax.tasks.evaluation_report import Plot, Table
from bert_jax.text.labelled import LabelledText


@pytest.fixture
def undrawn(monkeypatch):
    """Drawing takes most of the time, and these look at tables."""
    for name in ("draw_confusion", "draw_reliability", "draw_scatter"):
        monkeypatch.setattr(evaluation_plots, name, lambda *_: b"")


def rows(count, pair=""):
    return [LabelledText(f"text {n}", pair, "0", f"a.csv:{n}") for n in range(count)]


def test_calibration_by_hand():
    bins = reliability(np.array([0.9, 0.8, 0.6, 0.4]), np.array([True, False, True, False]), 2)
    assert bins[0] == Bin(0.0, 0.5, 1, 0.4, 0.0)
    assert bins[1][:3] == (0.5, 1.0, 3)
    assert bins[1].confidence == pytest.approx(2.3 / 3, abs=1e-12)
    assert bins[1].accuracy == pytest.approx(2 / 3, abs=1e-12)
    # One row that is 0.4 too sure, three that are 0.1 too sure.
    assert expected_error(bins) == pytest.approx((0.4 + 3 * 0.1) / 4, abs=1e-12)


def test_an_edge_belongs_to_the_bin_below_it():
    # ((m - 1) / M, m / M], Guo et al., section 2.
    confidences = np.array([0.0, 0.2, np.nextafter(0.2, 1), 1.0])
    assert [bin.rows for bin in reliability(confidences, confidences > 0, 5)] == [2, 1, 0, 0, 1]


def test_calibration_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    confidences = rng.uniform(size=500)
    is_right = rng.uniform(size=500) < confidences**2
    bins = [bin for bin in reliability(confidences, is_right, 15) if bin.rows]
    accuracy, confidence = calibration_curve(is_right, confidences, n_bins=15)
    np.testing.assert_allclose([bin.accuracy for bin in bins], accuracy, atol=1e-12)
    np.testing.assert_allclose([bin.confidence for bin in bins], confidence, atol=1e-12)


def test_the_bootstrap_finds_the_binomial_error():
    is_right = np.arange(400) % 10 < 3
    found = scores.standard_errors(lambda drawn: {"accuracy": is_right[drawn].mean()}, 400)
    # A hundred draws leave 7 %: three times that.
    assert found["accuracy"] == pytest.approx((0.3 * 0.7 / 400) ** 0.5, rel=0.21)
    assert scores.standard_errors(lambda drawn: {"accuracy": 1.0}, 1) == {}
    seldom = scores.standard_errors(lambda n: {"a": 1.0} | ({"b": 1.0} if 0 in n else {}), 9)
    assert seldom == {"a": 0.0}


def test_rows_are_counted_by_their_whole_length():
    task = Classify(("0", "1"), small.tokenizer(), 16, 4)
    texts = ["a b c", "a " * 14, "a " * 15, "a " * 40]
    labelled = [LabelledText(text, "", "0", "") for text in texts]
    assert task.lengths(labelled, task.encode(labelled)).tolist() == [5, 16, 17, 42]
    cut = Classify(("0", "1"), small.tokenizer(), 16, 0)
    assert cut.lengths(labelled, cut.encode(labelled)).tolist() == [5, 16, 17, 42]


def of_titles(sections):
    return {section.title: section for section in sections}


def classified(count=60, classes=3, pair=""):
    """Row n is of class n % classes, rows 0, 7, 14, ... are wrong, and the surer the later."""
    targets = np.arange(count) % classes
    predicted = np.where(np.arange(count) % 7 == 0, (targets + 1) % classes, targets)
    sure = np.linspace(0.5, 0.9, count)
    probabilities = np.full((count, classes), (1 - sure[:, None]) / (classes - 1))
    probabilities[np.arange(count), predicted] = sure
    labels = [f"c{n}" for n in range(classes)]
    lengths = np.arange(count) + 10
    return (rows(count, pair), lengths, targets, probabilities, labels), predicted


@pytest.mark.usefixtures("undrawn")
def test_the_most_confident_mistakes_come_first():
    given, predicted = classified()
    table = of_titles(findings.of_classes(*given))["The 9 most confident mistakes"]
    assert table.header == ("text", "true", "predicted", "confidence", "row")
    assert [row[0] for row in table.rows] == [f"text {n}" for n in range(56, -1, -7)]
    assert table.rows[0][1:3] == ("c2", f"c{predicted[56]}")
    assert table.rows[0][3] == pytest.approx(0.5 + 0.4 * 56 / 59)
    assert table.rows[0][4] == "a.csv:56"
    given, _ = classified(700, pair="b")
    table = of_titles(findings.of_classes(*given))["The 20 most confident mistakes"]
    assert table.rows[0][:2] == ("text 693", "b")


@pytest.mark.usefixtures("undrawn")
def test_lengths_are_parted_into_bins_of_about_as_many_rows():
    given, predicted = classified(100)
    table = of_titles(findings.of_classes(*given))["Accuracy by length"]
    assert [row[:2] for row in table.rows] == [
        *(("10 to 29", 20), ("30 to 49", 20), ("50 to 69", 20), ("70 to 89", 20)),
        ("90 to 109", 20),
    ]
    assert table.rows[0][2] == (predicted == given[2])[:20].mean()
    same = findings.by_length(np.full(10, 5), np.arange(10) < 5)
    assert same.rows == [("5 to 5", 10, 0.5, pytest.approx(0.025**0.5))]


@pytest.mark.usefixtures("undrawn")
def test_the_matrix_of_many_classes_is_a_list():
    given, _ = classified(60)
    table = of_titles(findings.of_classes(*given))["Confusion in numbers"]
    counts = np.array([row[1:] for row in table.rows])
    assert (counts.sum(), np.trace(counts)) == (60, 51)
    given, _ = classified(600, classes=50)
    found = of_titles(findings.of_classes(*given))
    assert "Confusion in numbers" not in found
    assert sum(row[2] for row in found["Most frequent confusions"].rows) <= 86
    assert found["Most frequent confusions"].rows[0][2] == 2


def test_precision_and_recall_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    targets, probabilities = rng.random((80, 4)) < 0.3, rng.random((80, 4))
    targets[:, 3] = False
    lengths = rng.integers(5, 9, size=80)
    sections = findings.of_sets(rows(80), lengths, targets, probabilities, list("abcd"), 0.5)
    found = of_titles(sections)["Classes"].rows
    bins = of_titles(sections)["Reliability by bin"].rows
    is_right = ((probabilities >= 0.5) == targets).all(axis=1)
    assert sum(row[1] for row in bins) == 80
    assert sum(row[1] * row[3] for row in bins) == pytest.approx(is_right.sum())
    wanted = precision_recall_fscore_support(targets, probabilities >= 0.5, zero_division=0.0)
    for column, values in enumerate(wanted, 1):
        np.testing.assert_allclose([row[column] for row in found], values, atol=1e-12)


def test_the_worst_rows_of_a_regression():
    targets, values = np.arange(40.0), np.arange(40.0)
    values[[3, 30]] += [5, -9]
    found = of_titles(findings.of_values(rows(40), np.full(40, 7), targets, values))
    table = found["The 20 rows that are worst"]
    assert [row[0] for row in table.rows[:3]] == ["text 30", "text 3", "text 0"]
    assert table.rows[0][1:] == (30.0, 21.0, 9.0)
    assert found["Difference by length"].rows[0][:3] == ("7 to 7", 40, 14 / 40)
    assert found["Predicted against true values"].png.startswith(b"\x89PNG")


EVIL = "<script src=http://x.y/z.js>a|b *c* [d](http://e)\n" + "长" * 300


def test_a_report_shows_texts_and_runs_nothing():
    sections = [
        Plot("Plot & more", "", b"\x89PNG"),
        Table("Rows", "a < b", ("text", "number"), [(EVIL, 0.25), ("b", 1234)]),
        evaluation_report.metric_table({"f1": 0.5, "loss": 1.0}, {"f1": 0.01}, ""),
    ]
    files = evaluation_report.files("title <&>", sections)
    page = files["report.html"]
    assert "&lt;script src=http://x.y/z.js&gt;a|b *c* [d](http://e) 长" in page
    assert "<script" not in page
    # Nothing is fetched: no address but those of the text, and the plot in the page.
    assert re.findall(r'(?:src|href|url)\W+"?([a-z]+:)', page.replace("&lt;script src=", "")) == [
        "data:"
    ]
    assert '<td class="number">0.2500</td>' in page
    assert '<td class="number">1,234</td>' in page
    assert "title &lt;&amp;&gt;" in page
    lines = files["report.md"].splitlines()
    (line,) = [line for line in lines if "script" in line]
    assert line.count("长") == 199 - EVIL.index("长")
    # A bar in a text is no end of a cell.
    assert len(re.split(r"(?<!\\)\|", line)) == 4
    assert r"a\|b \*c\* \[d\](http://e)" in line
    assert "&lt;script" in line
    assert "| f1 | 0.5000 | 0.0100 |" in lines
    assert "| loss | 1.0000 | – |" in lines


@pytest.mark.parametrize("labels", [["a$\\frac$", "b"], ["好评", "差评"], ["x" * 60, "\n"]])
def test_labels_of_any_kind_are_drawn_without_a_warning(labels):
    # A glyph that is missing would be a warning, and warnings are errors here.
    assert evaluation_plots.draw_confusion([[3, 1], [0, 0]], labels).startswith(b"\x89PNG")


def test_a_font_has_every_character():
    assert evaluation_plots.font_for(["abc"]) == "DejaVu Sans"
    assert evaluation_plots.font_for(["abc\U000e0100"]) is None  # no font draws this one
