"""Real commands on a small corpus; what they leave is made once."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from integration import corpus

ROOT = Path(__file__).parents[2]


def run_command(
    module: str, *args: str | Path, stdin: bytes = b"", **environment: str
) -> "subprocess.CompletedProcess":
    """`python -m bert_jax.MODULE ARGS`, as a user would in the repository."""
    return subprocess.run(
        [sys.executable, "-m", f"bert_jax.{module}", *map(str, args)],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,
        input=stdin,
        capture_output=True,
        check=False,
    )


@pytest.fixture(scope="session")
def command(tmp_path_factory):
    """`run_command` that fails the test when the command fails; of equal programs one is compiled
    for all."""
    stored = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }

    def run(module, *args, stdin=b""):
        done = run_command(module, *args, stdin=stdin, **stored)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    return run


class Made(NamedTuple):
    """Where the stages left their results, and what they printed."""

    documents: Path
    reviews: Path
    data: Path
    pretrained: Path
    classifier: Path
    printed: dict[str, str]


PREPARE = (
    "--config=configs/prepare_zh.py:tiny",
    "--config.tokenizer.vocab_size=300",
    "--config.instances.length=32",
    "--config.workers=1",
)
PRETRAIN = (
    "--config=configs/pretrain_base.py:tiny",
    "--config.model.positions=40",
    "--config.steps=10",
    "--config.eval_every=5",
)
FINETUNE = (
    "--config=configs/finetune_sentiment.py:tiny",
    "--config.epochs=1",
    "--config.optimizer.learning_rate=3e-3",
)


@pytest.fixture(scope="session")
def made(tmp_path_factory, command):
    """Every stage once: prepare, pretrain, finetune from the pretraining."""
    root = tmp_path_factory.mktemp("stages")
    documents = corpus.write_documents(root / "documents.txt", corpus.documents())
    reviews = corpus.write_reviews(root / "reviews.csv", corpus.reviews(200))
    data, pretrained, classifier = (root / name for name in ("data", "pretrained", "sentiment"))
    printed = {
        "prepare": command(
            "prepare", *PREPARE, f"--config.sources=('{documents}',)", f"--workdir={data}"
        ),
        "pretrain": command(
            "pretrain", *PRETRAIN, f"--config.data={data}", f"--workdir={pretrained}"
        ),
        "finetune": command(
            "finetune",
            *FINETUNE,
            f"--config.init_from={pretrained}",
            f"--config.data.train={reviews}",
            f"--workdir={classifier}",
        ),
    }
    return Made(documents, reviews, data, pretrained, classifier, printed)
