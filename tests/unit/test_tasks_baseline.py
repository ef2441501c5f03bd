"""The logistic regression that the quickstart prints beside the model."""

import numpy as np

from bert_jax.tasks import baseline
from bert_jax.text.labelled import LabelledText

TEXTS = ["好好好看", "不好看", "很好", "很差很差", "A级", "a级", "差A", "好a"]
LABELS = ["正面", "负面", "正面", "负面", "正面", "负面", "负面", "正面"]
ROWS = [
    LabelledText(text=text, pair="", label=label, where=f"rows:{i}")
    for i, (text, label) in enumerate(zip(TEXTS, LABELS, strict=True))
]


def test_it_is_where_loss_and_penalty_balance(monkeypatch):
    monkeypatch.setattr(baseline, "L2", 0.1)
    model = baseline.character_ngrams(ROWS)
    rows = model[:-1].transform(TEXTS).toarray()
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1)
    weights, bias = model[-1].coef_[0], model[-1].intercept_
    probabilities = 1 / (1 + np.exp(-(rows @ weights + bias)))
    wrong = probabilities - (np.array(LABELS) == model.classes_[1])
    np.testing.assert_allclose(rows.T @ wrong / len(rows), -0.1 * weights, atol=1e-4)
    assert np.abs(weights).max() > 0.1


def test_capitals_are_other_characters():
    assert {"A", "a", "A级", "a级"} <= set(baseline.character_ngrams(ROWS)[0].vocabulary_)


def test_accuracy_is_that_of_the_rows_asked_for():
    turned = [row._replace(label="负面" if row.label == "正面" else "正面") for row in ROWS]
    assert baseline.character_ngram_accuracy(ROWS, ROWS) == 1
    assert baseline.character_ngram_accuracy(ROWS, turned[:2] + ROWS[2:]) == 0.75
