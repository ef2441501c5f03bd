"""What the stages make of the small corpus, made once."""

import jax
import pytest
from integration import corpus

from bert_jax.data import prepare
from bert_jax.tasks import pretrain


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """Runs of the same config compile once: most of the time of these tests is XLA's."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.1,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


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
