"""Masks of whole words and of spans of words."""

import collections
import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import SIGMAS

from bert_jax.config import MaskingConfig
from bert_jax.data.instances import FOLLOWS, Instance
from bert_jax.data.masking import mask_row, predictions, random_replacements
from bert_jax.data.rows import make_row, mark
from bert_jax.text.pieces import SpecialIds

CLS, SEP, MASK = 2, 3, 4
SPECIAL = SpecialIds(pad=0, unk=1, cls=CLS, sep=SEP, mask=MASK)
VOCAB = 50
WORD = MaskingConfig(
    unit="word",
    span_words=3,
    rate=0.15,
    max_predictions=80,
    mask_share=0.8,
    random_share=0.1,
    random_special=True,
)
SPAN = dataclasses.replace(WORD, unit="span")

# A segment says of each token whether it begins a word. One whose front was cut off may
# begin inside a word; the second of an instance may be empty.
segments = st.lists(st.booleans(), min_size=1, max_size=40)
rows = st.lists(st.tuples(segments, segments | st.just([])), min_size=1, max_size=4)
settings = st.fixed_dictionaries(
    dict(
        unit=st.sampled_from(["word", "span"]),
        rate=st.sampled_from([0.01, 0.15, 0.5, 1.0]),
        max_predictions=st.sampled_from([1, 2, 7, 80]),
        span_words=st.integers(1, 4),
    )
)


def row_of(instances):
    """A row of such instances; every token has an id of its own."""
    ids = itertools.count(VOCAB)

    def segment(starts):
        return mark(np.array([next(ids) for _ in starts], int), np.array(starts, bool))

    return make_row(
        [Instance(segment(a), segment(b), FOLLOWS) for a, b in instances], cls=CLS, sep=SEP
    )


def words_of(instances):
    """For every segment of the row, in order: the places of each of its words."""
    place = itertools.count()
    found = []
    for a, b in instances:
        next(place)  # [CLS]
        for starts in (a, b):
            words = []
            for is_start in starts:
                # What is left of a word whose front was cut off is a word.
                if is_start or not words:
                    words.append([])
                words[-1].append(next(place))
            if words:
                found.append(words)
                next(place)  # [SEP]
    return found


def mask(row, config, seed=0):
    return mask_row(
        row,
        config,
        mask_id=MASK,
        replacements=np.arange(VOCAB, dtype=np.int32),
        rng=np.random.default_rng(seed),
    )


def counts_by_instance(row, positions):
    instance = np.searchsorted(np.cumsum(row.lengths), positions, side="right")
    return np.bincount(instance, minlength=len(row.lengths))


def wholly_masked(words, positions):
    """The words that are masked; fails where one is in part."""
    masked = [word for word in words if positions & set(word)]
    assert all(set(word) <= positions for word in masked)
    return masked


@given(rows, settings, st.integers(0, 2**32))
def test_words_are_masked_whole_or_not_at_all_and_never_too_many(instances, settings, seed):
    row, config = row_of(instances), dataclasses.replace(WORD, **settings)
    masked = mask(row, config, seed)
    positions = masked.positions.tolist()
    assert positions == sorted(set(positions))
    assert (masked.labels == row.ids[positions]).all()
    assert not np.isin(row.ids[positions], SPECIAL).any()
    untouched = np.delete(np.arange(len(row.ids)), positions)
    assert (masked.ids[untouched] == row.ids[untouched]).all()
    words = [word for segment in words_of(instances) for word in segment]
    assert sum(map(len, wholly_masked(words, set(positions)))) == len(positions)
    assert len(positions) <= config.max_predictions
    wanted = [predictions(length, config) for length in row.lengths.tolist()]
    assert (counts_by_instance(row, positions) <= wanted).all()


@given(rows, st.sampled_from([0.15, 0.5]), st.integers(0, 2**32))
def test_no_word_that_would_still_fit_is_left(instances, rate, seed):
    row = row_of(instances)
    config = dataclasses.replace(WORD, rate=rate, max_predictions=999)
    positions = set(mask(row, config, seed).positions.tolist())
    starts = np.cumsum(row.lengths) - row.lengths
    for start, length in zip(starts.tolist(), row.lengths.tolist(), strict=True):
        here = range(start, start + length)
        words = [word for segment in words_of(instances) for word in segment if word[0] in here]
        left = predictions(length, config) - len(positions & set(here))
        assert all(len(word) > left for word in words if word[0] not in positions)


def runs_of(positions):
    """Lengths of the runs of neighbouring places, in rising order."""
    cuts = np.flatnonzero(np.diff(positions) > 1) + 1
    return tuple(sorted(map(len, np.split(positions, cuts))))


def chances_of_spans(left, span_words):
    """{lengths in rising order: chance}: what does not fit any more is passed over."""
    if not left:
        return {(): 1.0}
    sizes = range(1, min(left, span_words) + 1)
    total = sum(1 / size for size in sizes)
    found = collections.Counter()
    for size in sizes:
        for rest, chance in chances_of_spans(left - size, span_words).items():
            found[tuple(sorted((size, *rest)))] += chance / size / total
    return found


def test_a_span_of_n_words_has_a_chance_as_one_over_n():
    words, runs = 4000, 3000
    row = row_of([([True] * words, [])])
    config = dataclasses.replace(SPAN, rate=0.001, span_words=3)
    assert predictions(words + 2, config) == 4
    expected = chances_of_spans(4, 3)
    assert expected[1, 3] == pytest.approx(2 / 11 + 6 / 11 * 2 / 11)  # by hand
    found = collections.Counter(runs_of(mask(row, config, seed).positions) for seed in range(runs))
    # Two of up to four spans touch about 5 * 4 / 4000 times.
    touching = 0.005
    assert sum(found[lengths] for lengths in found.keys() - expected.keys()) <= touching * runs
    for lengths, share in expected.items():
        error = math.sqrt(share * (1 - share) / runs)
        assert abs(found[lengths] / runs - share) < SIGMAS * error + touching, lengths


def test_a_span_ends_with_its_segment():
    size, runs = 20, 3000
    row = row_of([([True] * size, [True] * size)])
    config = dataclasses.replace(SPAN, span_words=2, rate=0.05)
    assert predictions(2 * size + 3, config) == 2
    found = collections.Counter(
        tuple(mask(row, config, seed).positions.tolist()) for seed in range(runs)
    )
    # Neighbours in a segment are masked by a span of two words in every third row, those
    # on both sides of the [SEP] only by two spans of one.
    of_two = runs / 3 / (2 * size)
    by_chance = runs * 2 / 3 / math.comb(2 * size, 2)
    for first in range(1, size):
        assert abs(found[first, first + 1] - of_two - by_chance) < SIGMAS * math.sqrt(of_two)
    assert found[size, size + 2] < by_chance + SIGMAS * math.sqrt(by_chance) < of_two / 2


def test_of_words_of_one_token_as_many_are_masked_as_of_tokens():
    row = row_of([([True] * n, [True] * m) for n, m in [(5, 2), (17, 10), (1, 1), (23, 24)]])
    runs = 3000
    places = np.zeros(len(row.ids))
    for seed in range(runs):
        positions = mask(row, WORD, seed).positions
        assert counts_by_instance(row, positions).tolist() == [2, 4, 1, 8]
        places[positions] += 1
    share = np.repeat([2 / 7, 4 / 27, 1 / 2, 8 / 47], [7, 27, 2, 47])
    error = np.sqrt(share * (1 - share) / runs)
    assert (np.abs(places[places > 0] / runs - share) < SIGMAS * error).all()


@pytest.mark.parametrize("unit", ["token", "word", "span"])
def test_a_packed_row_masks_no_more_than_it_may_and_every_instance_has_its_turn(unit):
    instances = [([True, False] * 6, [True, False] * 6)] * 3  # 4 each are wanted
    row = row_of(instances)
    config = dataclasses.replace(WORD, unit=unit, max_predictions=8)
    assert sum(predictions(length, config) for length in row.lengths.tolist()) == 12
    totals = np.zeros(3)
    for seed in range(300):
        positions = mask(row, config, seed).positions
        assert 0 < len(positions) <= 8
        counts = counts_by_instance(row, positions)
        assert (counts <= 4).all()
        totals += counts
    # Nobody is favoured; a row's share of one instance varies by less than a third.
    assert np.abs(totals / totals.sum() - 1 / 3).max() < SIGMAS / 3 / math.sqrt(300)


@pytest.mark.parametrize("random_special", [True, False])
def test_random_replacements_are_special_only_where_that_is_asked_for(random_special):
    config = dataclasses.replace(
        WORD, rate=1.0, max_predictions=999, mask_share=0.0, random_share=1.0
    )
    config = dataclasses.replace(config, random_special=random_special)
    replacements = random_replacements(config, vocab_size=12, special=SPECIAL)
    row = row_of([([True] * 400, [])])
    masked = mask_row(
        row, config, mask_id=MASK, replacements=replacements, rng=np.random.default_rng(0)
    )
    drawn = set(masked.ids[masked.positions].tolist())
    assert drawn == set(range(12)) - (set() if random_special else set(SPECIAL))
