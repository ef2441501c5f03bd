"""Which tokens are masked and what replaces them (create_pretraining_data.py)."""

import dataclasses
import math

import numpy as np
import pytest

from bert_jax.config import MaskingConfig
from bert_jax.data.instances import FOLLOWS, Instance
from bert_jax.data.masking import mask_row, predictions
from bert_jax.data.rows import make_row, mark

CLS, SEP, MASK, VOCAB = 2, 3, 4, 50
SIGMAS = 4.5
BERT = MaskingConfig(
    unit="token",
    span_words=3,
    rate=0.15,
    max_predictions=80,
    mask_share=0.8,
    random_share=0.1,
    random_special=True,
)


def row_of(*lengths, first_id=10):
    """A row of instances; a pair (n, m) has n tokens in A and m in B."""
    return make_row(
        [instance([first_id] * n, [first_id + 1] * m) for n, m in lengths], cls=CLS, sep=SEP
    )


def instance(a, b, a_starts=True, b_starts=True):
    """Of ids, and which of them begin a word."""
    sides = ((np.array(a, int), a_starts), (np.array(b, int), b_starts))
    marked = (mark(ids, np.broadcast_to(starts, ids.shape)) for ids, starts in sides)
    return Instance(*marked, FOLLOWS)


def mask(row, config=BERT, seed=0):
    rng = np.random.default_rng(seed)
    return mask_row(row, config, mask_id=MASK, replacements=np.arange(VOCAB), rng=rng)


@pytest.mark.parametrize(
    ("length", "count"),
    # 10, 30, 50, 70, 90 and 110 tokens are halves: Python rounds them to the even number.
    [(10, 2), (30, 4), (50, 8), (70, 10), (90, 14), (110, 16), (128, 19), (512, 77), (4, 1)],
)
def test_number_of_predictions(length, count):
    assert predictions(length, BERT) == count
    half = (length - 3) // 2
    assert len(mask(row_of((half, length - 3 - half))).positions) == count


def test_predictions_stop_at_the_most_allowed():
    config = dataclasses.replace(BERT, max_predictions=20, mask_share=0.8, random_share=0.1)
    assert predictions(512, config) == 20
    assert len(mask(row_of((200, 300)), config).positions) == 20


def test_more_wanted_than_there_are_tokens_masks_them_all():
    config = dataclasses.replace(
        BERT, rate=1.0, max_predictions=80, mask_share=1.0, random_share=0.0
    )
    masked = mask(row_of((2, 1), (1, 1)), config)
    assert masked.positions.tolist() == [1, 2, 4, 7, 9]
    assert masked.ids.tolist() == [CLS, MASK, MASK, SEP, MASK, SEP, CLS, MASK, SEP, MASK, SEP]


def test_positions_rise_and_avoid_special_tokens_and_labels_are_what_stood_there():
    rng = np.random.default_rng(1)
    instances = [
        instance(rng.integers(5, VOCAB, n), rng.integers(5, VOCAB, m))
        for n, m in [(20, 30), (1, 1), (7, 40)]
    ]
    row = make_row(instances, cls=CLS, sep=SEP)
    original = row.ids.copy()
    for seed in range(200):
        masked = mask(row, seed=seed)
        assert (np.diff(masked.positions) > 0).all()
        assert not np.isin(original[masked.positions], (CLS, SEP)).any()
        assert (masked.labels == original[masked.positions]).all()
        untouched = np.setdiff1d(np.arange(len(original)), masked.positions)
        assert (masked.ids[untouched] == original[untouched]).all()
        assert (row.ids == original).all()


def test_special_ids_inside_the_text_can_be_masked():
    # Places are special, not ids: a text may hold a piece that looks like [SEP].
    config = dataclasses.replace(
        BERT, rate=1.0, max_predictions=80, mask_share=1.0, random_share=0.0
    )
    row = make_row([instance([SEP, CLS], [SEP])], cls=CLS, sep=SEP)
    assert mask(row, config).positions.tolist() == [1, 2, 4]


def test_every_place_is_equally_likely():
    row = row_of((9, 8))
    runs = 4000
    counts = np.zeros(len(row.ids))
    for seed in range(runs):
        counts[mask(row, seed=seed).positions] += 1
    places = [i for i in range(20) if i not in (0, 10, 19)]
    share = predictions(20, BERT) / len(places)
    error = math.sqrt(share * (1 - share) / runs)
    assert np.abs(counts[places] / runs - share).max() < SIGMAS * error


def test_eighty_ten_ten_and_random_ids_from_the_whole_vocabulary():
    # The text consists of an id past the vocabulary that is drawn from, so that what
    # was kept cannot be taken for a random draw.
    row = row_of((250, 250), first_id=VOCAB)
    kept = drawn = hidden = 0
    ids = np.zeros(VOCAB, int)
    for seed in range(300):
        masked = mask(row, seed=seed)
        now = masked.ids[masked.positions]
        kept += (now >= VOCAB).sum()
        drawn += ((now < VOCAB) & (now != MASK)).sum()
        hidden += (now == MASK).sum()
        ids += np.bincount(now[now < VOCAB], minlength=VOCAB)
    total = 300 * predictions(503, BERT)
    assert kept + drawn + hidden == total
    # A random draw is [MASK] itself once in VOCAB times.
    for count, share in [(hidden, 0.8 + 0.1 / VOCAB), (drawn, 0.1 - 0.1 / VOCAB), (kept, 0.1)]:
        assert abs(count / total - share) < SIGMAS * math.sqrt(share * (1 - share) / total)
    others = np.delete(ids, MASK)
    expected = drawn / (VOCAB - 1)
    assert np.abs(others - expected).max() < SIGMAS * math.sqrt(expected)


@pytest.mark.parametrize(
    ("mask_share", "random_share", "is_right"),
    [
        (1.0, 0.0, lambda ids: (ids == MASK).all()),
        (0.0, 0.0, lambda ids: (ids >= VOCAB).all()),
        (0.0, 1.0, lambda ids: (ids < VOCAB).all() and (ids != MASK).any()),
    ],
)
def test_shares_of_all_or_nothing(mask_share, random_share, is_right):
    config = dataclasses.replace(BERT, mask_share=mask_share, random_share=random_share)
    masked = mask(row_of((250, 250), first_id=VOCAB), config)
    assert is_right(masked.ids[masked.positions])


def test_each_instance_of_a_packed_row_gets_its_own_number():
    sizes = [(5, 2), (17, 10), (1, 1), (23, 24)]  # 10, 30, 5 and 50 tokens
    row = row_of(*sizes)
    ends = np.cumsum(row.lengths)
    for seed in range(100):
        positions = mask(row, seed=seed).positions
        assert np.bincount(np.searchsorted(ends, positions, "right")).tolist() == [2, 4, 1, 8]


def test_a_packed_row_asking_for_too_many_keeps_a_random_choice():
    config = dataclasses.replace(BERT, max_predictions=10, mask_share=0.8, random_share=0.1)
    row = row_of((23, 24), (23, 24))  # 8 each
    runs = 2000
    first = []
    for seed in range(runs):
        positions = mask(row, config, seed).positions
        assert len(positions) == 10
        assert (np.diff(positions) > 0).all()
        first.append((positions < 50).sum())
    # Ten of sixteen without replacement, eight on each side: hypergeometric.
    variance = 10 * 0.25 * (16 - 10) / (16 - 1)
    assert abs(np.mean(first) - 5) < SIGMAS * math.sqrt(variance / runs)
    assert np.var(first) == pytest.approx(variance, rel=0.25)


def test_masks_are_a_pure_function_of_the_generator():
    row = row_of((40, 40), (20, 20))
    once, again, other = mask(row, seed=1), mask(row, seed=1), mask(row, seed=2)
    for name in once._fields:
        assert (getattr(once, name) == getattr(again, name)).all()
    assert once.positions.tolist() != other.positions.tolist()
