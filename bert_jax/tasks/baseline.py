"""The honest rival of a small text classifier: logistic regression on character n-grams."""

from collections.abc import Sequence

from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer

from bert_jax.text.labelled import LabelledText

L2 = 1e-5  # half of it times the squared weights, beside the mean loss of a row


def character_ngrams(train: Sequence[LabelledText]) -> Pipeline:
    """Fitted to character uni- and bigram counts scaled to unit length, capitals kept."""
    model = make_pipeline(
        CountVectorizer(analyzer="char", ngram_range=(1, 2), lowercase=False),
        Normalizer(),
        LogisticRegression(C=1 / (L2 * len(train)), max_iter=1000),
    )
    return model.fit([row.text for row in train], [row.label for row in train])


def character_ngram_accuracy(train: Sequence[LabelledText], test: Sequence[LabelledText]) -> float:
    """Accuracy on `test`."""
    model = character_ngrams(train)
    return float(model.score([row.text for row in test], [row.label for row in test]))
