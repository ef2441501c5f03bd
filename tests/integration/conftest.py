"""What the stages make of the small corpus, made once."""

import pytest
from integration import corpus

from bert_jax.data import prepare
from bert_jax.tasks import pretrain


@pytest.fixture(scope="session")
def documents_path(tmp_path_factory):
    """120 documents of plain text."""
    path = tmp_path_factory.mktemp("corpus") / "documents.txt"
    return corpus.write_documents(path, corpus.documents())


@pytest.fixture(scope="session")
def data(documents_path, tmp_path_factory):
    """The workdir of a preparation."""
    directory = tmp_path_factory.mktemp("data")
    prepare.run(corpus.prepare_config(documents_path), directory)
    return directory


@pytest.fixture(scope="session")
def pretrained(data, tmp_path_factory):
    """The workdir of a pretraining that ran straight to its end."""
    directory = tmp_path_factory.mktemp("pretrained")
    pretrain.run(corpus.pretrain_config(data), directory)
    return directory


@pytest.fixture(scope="session")
def reviews_path(tmp_path_factory):
    """200 reviews of two classes."""
    path = tmp_path_factory.mktemp("reviews") / "reviews.csv"
    return corpus.write_reviews(path, corpus.reviews(200))
