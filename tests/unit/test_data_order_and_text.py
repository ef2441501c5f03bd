"""Pairs in either order, and plain text."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from oracle import SIGMAS, contains_run, corpora, flatten, number_tokens, tokenized

from bert_jax.data.instances import (
    DOES_NOT_FOLLOW,
    FOLLOWS,
    NO_LABEL,
    TokenizedDocument,
    sentence_order_instances,
    text_instances,
)
from bert_jax.data.rows import instance_length


def passed(make, lengths, *, length=1000, short_probability=0.0, seed=0):
    """(tokens of the first document, its instances) for documents of such sentences."""
    documents = number_tokens(lengths)
    rng = np.random.default_rng(seed)
    found = make(
        tokenized(documents), 0, length=length, short_probability=short_probability, rng=rng
    )
    return flatten(documents[0]), list(found)


@given(corpora, st.integers(0, 2**32))
def test_ordered_pairs_use_every_token_once_and_swap_the_sides(lengths, seed):
    # Nothing reaches the length, so one chunk is the whole document.
    document, (found,) = passed(sentence_order_instances, lengths, seed=seed)
    a, b = found.a.tolist(), found.b.tolist()
    in_order = {FOLLOWS: a + b, DOES_NOT_FOLLOW: b + a, NO_LABEL: a}[found.next_label]
    assert in_order == document
    if len(lengths[0]) == 1:
        assert found.next_label == NO_LABEL
        assert b == []
    else:
        assert found.next_label != NO_LABEL
        first = b if found.next_label == DOES_NOT_FOLLOW else a
        assert len(first) in np.cumsum(lengths[0])[:-1]


@given(st.integers(1, 60), st.integers(8, 30), st.integers(0, 2**32))
def test_chunks_of_ordered_pairs_lose_nothing_between_them(sentences, length, seed):
    # Sentences of one token meet the target exactly, so nothing is cut.
    document, found = passed(
        sentence_order_instances, [[1] * sentences], length=length, short_probability=0.5, seed=seed
    )
    sides = [(b, a) if label == DOES_NOT_FOLLOW else (a, b) for a, b, label in found]
    assert [token for pair in sides for side in pair for token in side.tolist()] == document


@given(corpora, st.integers(8, 24), st.integers(0, 2**32))
def test_ordered_pairs_fit_and_both_sides_have_tokens(lengths, length, seed):
    document, found = passed(
        sentence_order_instances, lengths, length=length, short_probability=0.5, seed=seed
    )
    for instance in found:
        assert instance_length(instance) <= length
        assert len(instance.a)
        assert contains_run(document, instance.a)
        assert contains_run(document, instance.b)
        assert (len(instance.b) == 0) == (instance.next_label == NO_LABEL)
        if instance.next_label != NO_LABEL:
            a_is_first = instance.a[-1] < instance.b[0]
            assert a_is_first == (instance.next_label == FOLLOWS)


def test_a_long_sentence_alone_fills_the_row_without_b():
    _, (found,) = passed(sentence_order_instances, [[50]], length=20)
    assert (len(found.a), len(found.b), found.next_label) == (18, 0, NO_LABEL)


def test_half_of_the_ordered_pairs_are_swapped():
    _, found = passed(sentence_order_instances, [[3] * 8000], length=15, seed=1)
    labels = np.array([instance.next_label for instance in found])
    assert len(labels) == 2000
    assert set(labels) == {FOLLOWS, DOES_NOT_FOLLOW}
    assert abs((labels == DOES_NOT_FOLLOW).mean() - 0.5) < SIGMAS * math.sqrt(0.25 / len(labels))
    # One chunk's draw says nothing of the next one's.
    agree = (labels[1:] == labels[:-1]).mean()
    assert abs(agree - 0.5) < SIGMAS * math.sqrt(0.25 / (len(labels) - 1))


@given(corpora, st.integers(8, 40), st.floats(0, 1), st.integers(0, 2**32))
def test_text_is_every_token_once_in_order(lengths, length, short_probability, seed):
    document, found = passed(
        text_instances, lengths, length=length, short_probability=short_probability, seed=seed
    )
    assert [token for instance in found for token in instance.a.tolist()] == document
    sizes = [len(instance.a) for instance in found]
    assert min(sizes) > 0
    assert max(sizes) <= length - 2
    # Between the first cut and the rest that is left all pieces are of one size.
    assert len(set(sizes[1:-1])) <= 1
    assert all(len(b) == 0 and label == NO_LABEL for _, b, label in found)


def test_every_pass_cuts_the_text_elsewhere():
    length, runs = 12, 5000
    rng = np.random.default_rng(2)
    documents = tokenized(number_tokens([[7] * 5]))
    options = dict(length=length, short_probability=0.0, rng=rng)
    firsts = [len(next(text_instances(documents, 0, **options)).a) for _ in range(runs)]
    counts = np.bincount(firsts, minlength=length - 1)
    assert counts[0] == 0
    assert len(counts) == length - 1
    share = 1 / (length - 2)
    error = math.sqrt(share * (1 - share) / runs)
    assert np.abs(counts[1:] / runs - share).max() < SIGMAS * error


def test_a_text_that_fits_is_not_cut():
    for seed in range(50):
        document, (found,) = passed(text_instances, [[4, 6]], length=12, seed=seed)
        assert found.a.tolist() == document


def test_gather_takes_a_sentence_at_least_and_the_rest_at_most():
    document = TokenizedDocument(np.arange(10), np.array([1, 4, 8, 10]))
    wanted_to_stop = {-5: 1, 0: 1, 1: 1, 2: 2, 4: 2, 5: 3, 8: 3, 9: 4, 10: 4, 99: 4}
    assert {wanted: document.gather(0, wanted) for wanted in wanted_to_stop} == wanted_to_stop
    # From the third sentence on: four tokens, then two.
    assert [document.gather(2, wanted) for wanted in (0, 4, 5, 7)] == [3, 3, 4, 4]
    assert document.gather(3, 1) == 4


def test_stretches_are_views_of_the_sentences():
    document = TokenizedDocument(np.arange(10), np.array([3, 4, 8, 10]))
    assert document.stretch(0, 1).tolist() == [0, 1, 2]
    assert document.stretch(1, 3).tolist() == [3, 4, 5, 6, 7]
    assert document.stretch(0, 4).tolist() == list(range(10))
    assert document.stretch(2, 2).tolist() == []
    assert document.stretch(1, 3).base is document.tokens
