"""Sentence pairs against a plain transcription of create_pretraining_data.py, and exactly."""

import collections
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import (
    SIGMAS,
    contains_run,
    corpora,
    flatten,
    number_tokens,
    plain,
    slow_instances,
    tokenized,
)

from bert_jax.data.instances import next_sentence_instances, truncate_pair


def instances_of(documents, index=0, *, length=128, short_probability=0.0, seed=0):
    """(A, B, is random next) as tuples of one pass."""
    rng = np.random.default_rng(seed)
    return plain(
        next_sentence_instances(
            tokenized(documents), index, length=length, short_probability=short_probability, rng=rng
        )
    )


def test_statistics_agree_with_the_original_algorithm():
    shape = random.Random(1)
    documents = number_tokens(
        [[shape.randint(1, 20) for _ in range(shape.randint(1, 14))] for _ in range(60)]
    )

    def statistics(found):
        """Sums over one pass of one document: passes are independent, instances are not."""
        return [
            len(found),
            sum(is_random for _, _, is_random in found),
            sum(len(a) for a, _, _ in found),
            sum(len(b) for _, b, _ in found),
            sum(len(b) for _, b, is_random in found if is_random),
            sum((len(a) + len(b)) ** 2 for a, b, _ in found),
            sum(len(a) + len(b) == 40 - 3 for a, b, _ in found),
        ]

    rng, slow_rng = np.random.default_rng(2), random.Random(3)
    arrays = tokenized(documents)
    ours, theirs = [], []
    for _ in range(100):
        for index in range(len(documents)):
            found = next_sentence_instances(
                arrays, index, length=40, short_probability=0.3, rng=rng
            )
            ours.append(statistics(plain(found)))
            theirs.append(statistics(slow_instances(documents, index, 40, 0.3, slow_rng)))
    ours, theirs = np.array(ours, float), np.array(theirs, float)
    error = np.sqrt((ours.var(0) + theirs.var(0)) / len(ours))
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < SIGMAS * error).all()


def test_every_outcome_is_as_likely_as_in_the_original():
    documents = number_tokens([[2, 1, 3], [2, 2], [1]])
    runs = 20_000
    rng, slow_rng = np.random.default_rng(4), random.Random(5)
    arrays = tokenized(documents)
    ours, theirs = collections.Counter(), collections.Counter()
    for _ in range(runs):
        found = next_sentence_instances(arrays, 0, length=8, short_probability=0.2, rng=rng)
        ours[tuple((tuple(a), tuple(b), r) for a, b, r in plain(found))] += 1
        theirs[tuple(slow_instances(documents, 0, 8, 0.2, slow_rng))] += 1
    assert len(theirs) > 50
    for outcome in ours | theirs:
        error = math.sqrt(ours[outcome] + theirs[outcome])
        assert abs(ours[outcome] - theirs[outcome]) <= SIGMAS * max(error, 1), outcome


@given(corpora, st.integers(0, 2**32))
def test_the_unused_rest_is_put_back_and_every_sentence_used_once(lengths, seed):
    documents = number_tokens(lengths)
    # Nothing reaches the length, so nothing is cut.
    found = instances_of(documents, length=1000, seed=seed)
    used = flatten(a + ([] if is_random else b) for a, b, is_random in found)
    assert used == flatten(documents[0])


@given(st.integers(1, 60), st.integers(8, 30), st.integers(0, 2**32))
def test_chunks_end_at_the_target_and_nothing_is_lost_between_them(sentences, length, seed):
    # Sentences of one token meet the target exactly, so nothing is cut here either.
    documents = number_tokens([[1] * sentences, [1] * 500])
    found = instances_of(documents, length=length, short_probability=0.5, seed=seed)
    used = flatten(a + ([] if is_random else b) for a, b, is_random in found)
    assert used == flatten(documents[0])
    whole = [len(a) + len(b) for a, b, is_random in found[:-1] if not is_random]
    assert len(set(whole)) <= 1  # one target a document


@given(corpora, st.integers(8, 24), st.integers(0, 2**32))
def test_segments_are_runs_of_one_document_and_fit(lengths, length, seed):
    documents = number_tokens(lengths)
    texts = [flatten(document) for document in documents]
    for a, b, is_random in instances_of(documents, length=length, short_probability=0.5, seed=seed):
        assert a
        assert b
        assert len(a) + len(b) <= length - 3
        assert contains_run(texts[0], a)
        if is_random:
            assert any(contains_run(text, b) for text in texts)
        else:
            assert contains_run(texts[0], b)
            assert a[-1] < b[0]


def test_a_document_of_one_sentence_is_always_random_next():
    documents = number_tokens([[5], [3, 3], [4]])
    for seed in range(200):
        ((a, _, is_random),) = instances_of(documents, seed=seed)
        assert is_random
        assert a == documents[0][0]


def test_random_next_is_half_of_the_chunks_of_several_sentences():
    documents = number_tokens([[1] * 2, [1] * 50])
    runs = 4000
    # Both sentences make the first chunk.
    share = np.mean([instances_of(documents, seed=seed)[0][2] for seed in range(runs)])
    assert abs(share - 0.5) < SIGMAS * math.sqrt(0.25 / runs)


def test_random_next_comes_from_another_document_and_all_of_them():
    documents = number_tokens([[2] * 6] + [[2] * 3] * 20)
    owner = {t: i for i, document in enumerate(documents) for t in flatten(document)}
    starts = collections.Counter()
    for seed in range(1500):
        for _, b, is_random in instances_of(documents, length=12, seed=seed):
            if is_random:
                assert len({owner[token] for token in b}) == 1
                starts[owner[b[0]]] += 1
    # Ten draws of 21 documents all fall on the first once in 10^13 times.
    assert set(starts) == set(range(1, 21))


def test_random_next_of_a_corpus_of_one_document_keeps_its_label():
    documents = number_tokens([[3]])
    ((_, b, is_random),) = instances_of(documents)
    assert is_random
    assert b == documents[0][0]


def test_short_targets_have_the_stated_share_and_are_uniform():
    length, share, runs = 23, 0.3, 6000
    longest = length - 3
    documents = number_tokens([[1] * 100])
    totals = collections.Counter()
    for seed in range(runs):
        # A chunk of sentences of one token is as long as the target.
        found = instances_of(documents, length=length, short_probability=share, seed=seed)
        whole = {len(a) + len(b) for a, b, is_random in found[:-1] if not is_random}
        if whole:
            (total,) = whole
            totals[total] += 1
    counted = totals.total()
    assert counted > 0.9 * runs
    assert set(totals) == set(range(2, longest + 1))
    for target in range(2, longest):
        expected = share / (longest - 1)
        error = math.sqrt(expected * (1 - expected) / counted)
        assert abs(totals[target] / counted - expected) < SIGMAS * error, target


@given(st.integers(1, 30), st.integers(1, 30), st.integers(2, 40), st.integers(0, 2**32))
def test_truncation_takes_from_the_longer_side_and_from_b_on_a_tie(len_a, len_b, longest, seed):
    a, b = np.arange(len_a), np.arange(100, 100 + len_b)
    short_a, short_b = truncate_pair(a, b, longest, np.random.default_rng(seed))
    while len_a + len_b > longest:
        if len_a > len_b:
            len_a -= 1
        else:
            len_b -= 1
    assert (len(short_a), len(short_b)) == (len_a, len_b)
    assert contains_run(a.tolist(), short_a.tolist())
    assert contains_run(b.tolist(), short_b.tolist())


@pytest.mark.parametrize("side", [0, 1])
def test_truncation_takes_from_front_and_back_alike(side):
    drops, runs = 10, 1000
    pair = [np.zeros(1, int), np.zeros(1, int)]
    pair[side] = np.arange(50)
    rng = np.random.default_rng(6)
    from_front = [truncate_pair(*pair, 51 - drops, rng)[side][0] for _ in range(runs)]
    assert abs(np.mean(from_front) - drops / 2) < SIGMAS * math.sqrt(drops / 4 / runs)
    # Every single token is drawn for: the number is binomial, not all or nothing.
    assert np.var(from_front) == pytest.approx(drops / 4, rel=0.25)


def test_the_pairs_are_a_pure_function_of_the_generator():
    documents = number_tokens([[3, 4, 2, 5, 1] * 4, [2, 2, 6] * 5])
    once = instances_of(documents, length=16, short_probability=0.5, seed=7)
    assert instances_of(documents, length=16, short_probability=0.5, seed=7) == once
    assert instances_of(documents, length=16, short_probability=0.5, seed=8) != once
