"""The honest rival of a small text classifier: logistic regression on character n-grams."""

from collections.abc import Sequence

from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from bert_jax.text.labelled import LabelledText

L2 = 1e-5  # times the squared weights, beside the mean loss of a row


def character_ngram_accuracy(train: Sequence[LabelledText], test: Sequence[LabelledText]) -> float:
    """Accuracy on `test` of character uni- and bigram counts scaled to unit length."""
    model = make_pipeline(
        CountVectorizer(analyzer="char", ngram_range=(1, 2)),
        Normalizer(),
        LogisticRegression(C=1 / (L2 * len(train)), max_iter=1000),
    )
    model.fit([row.text for row in train], [row.label for row in train])
    return float(model.score([row.text for row in test], [row.label for row in test]))
