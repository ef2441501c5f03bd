"""Texts and pairs with special pieces, cut, in windows, padded, packed."""

import numpy as np
import pytest
import small
from hypothesis import given
from hypothesis import strategies as st

from bert_jax.data.encoding import (
    SINGLE_SPECIAL,
    Encoding,
    bucket,
    cut_pair,
    pack_tokens,
    pad_tokens,
    pair,
    single,
    whole_lengths,
    windows,
)
from bert_jax.errors import InputError

PAD = 6


@pytest.mark.parametrize(
    ("length", "max_length", "size"),
    [
        (1, 128, 16),
        (16, 128, 16),
        (17, 128, 32),
        (33, 128, 64),
        (65, 128, 128),
        (65, 100, 100),
        (128, 128, 128),
        (12, 12, 12),
    ],
)
def test_bucket(length, max_length, size):
    assert bucket(length, max_length) == size


def test_special_pieces_around_one_text_and_two():
    cls, sep = small.tokenizer().special[2:4]
    one, two = single([7, 8], small.tokenizer()), pair([7], [8, 9], small.tokenizer())
    assert (one.ids.tolist(), one.second) == ([cls, 7, 8, sep], 4)
    assert (two.ids.tolist(), two.second) == ([cls, 7, sep, 8, 9, sep], 3)
    assert one.ids.dtype == two.ids.dtype == np.int32


def test_padded_tokens_spelled_out():
    encodings = [Encoding(np.array([3, 7, 5, 8, 5], np.int32), 3), Encoding(np.array([3, 5]), 2)]
    tokens = pad_tokens(encodings, 3, 6, PAD)
    assert tokens.ids.tolist() == [[3, 7, 5, 8, 5, PAD], [3, 5, *[PAD] * 4], [PAD] * 6]
    assert tokens.segments.tolist() == [[0, 0, 0, 1, 1, 0], [0] * 6, [0] * 6]
    assert tokens.positions.tolist() == [[0, 1, 2, 3, 4, 0], [0, 1, 0, 0, 0, 0], [0] * 6]
    assert tokens.instances.tolist() == [[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0], [0] * 6]


def padded(lengths, rows, length):
    """Texts of which each token is another, and the second half is in segment 1."""
    ids = np.split(np.arange(100, 100 + sum(lengths), dtype=np.int32), np.cumsum(lengths)[:-1])
    return pad_tokens([Encoding(one, len(one) // 2) for one in ids], rows, length, PAD)


def test_packed_tokens_spelled_out():
    rows, places = pack_tokens(padded([2, 5, 3], 4, 6), rows=2, pad=PAD)
    assert rows.ids.tolist() == [[102, 103, 104, 105, 106, PAD], [107, 108, 109, 100, 101, PAD]]
    assert rows.segments.tolist() == [[0, 0, 1, 1, 1, 0], [0, 1, 1, 0, 1, 0]]
    assert rows.positions.tolist() == [[0, 1, 2, 3, 4, 0], [0, 1, 2, 0, 1, 0]]
    assert rows.instances.tolist() == [[1, 1, 1, 1, 1, 0], [1, 1, 1, 2, 2, 0]]
    assert places.tolist() == [
        *([9, 10, *[-1] * 4], [0, 1, 2, 3, 4, -1], [6, 7, 8, -1, -1, -1], [-1] * 6),
    ]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(0, 4))
def test_packed_texts_are_found_at_their_places(lengths, more):
    tokens = padded(lengths, len(lengths) + 2, 9)
    rows, places = pack_tokens(tokens, rows=len(lengths) + more, pad=PAD)
    assert rows.ids.shape == (len(lengths) + more, 9)
    assert sorted(places[places >= 0]) == np.flatnonzero(rows.instances).tolist()
    for text, size in enumerate(lengths):
        for packed, alone in zip(rows[:3], tokens[:3], strict=True):
            assert packed.ravel()[places[text, :size]].tolist() == alone[text, :size].tolist()
        at = places[text, :size]
        assert len(set(zip(at // 9, rows.instances.ravel()[at], strict=True))) == min(size, 1)
    # No two texts are one instance of a row.
    found = {(at // 9, rows.instances.ravel()[at]) for at in places[:, 0] if at >= 0}
    assert len(found) == np.count_nonzero(lengths)


@pytest.mark.parametrize("instances", [[0, 1, 1], [1, 0, 1], [1, 2, 2]])
def test_only_a_text_a_row_is_packed(instances):
    tokens = padded([3], 1, 3)._replace(instances=np.array([instances], np.int32))
    with pytest.raises(ValueError, match="one text in each row"):
        pack_tokens(tokens, rows=1, pad=PAD)


def test_texts_that_need_more_rows_are_refused():
    with pytest.raises(ValueError, match="need 2 rows of 6 tokens, not 1"):
        pack_tokens(padded([2, 5, 3], 4, 6), rows=1, pad=PAD)


@given(st.integers(0, 12), st.integers(0, 12), st.integers(1, 12))
def test_a_pair_is_cut_as_published(a, b, room):
    # run_classifier.py of google-research/bert, one token at a time.
    kept_a, kept_b = a, b
    while kept_a + kept_b > room:
        if kept_a > kept_b:
            kept_a -= 1
        else:
            kept_b -= 1
    assert cut_pair(a, b, room) == (kept_a, kept_b)


@pytest.mark.parametrize(
    ("length", "overlap", "wanted"),
    [
        (0, 2, [(0, 0)]),
        (6, 2, [(0, 6)]),
        (7, 2, [(0, 6), (4, 7)]),
        (14, 2, [(0, 6), (4, 10), (8, 14)]),
        (13, 0, [(0, 6), (6, 12), (12, 13)]),
    ],
)
def test_windows_share_the_overlap(length, overlap, wanted):
    assert windows(length, 6, overlap) == wanted


def test_windows_hold_something_new():
    assert len(windows(20, 6, 5)) == 15
    for overlap in (6, 7):
        with pytest.raises(InputError, match=rf"room for 6 tokens cannot share {overlap}: lower"):
            windows(20, 6, overlap)


@given(st.lists(st.integers(0, 30), max_size=4), st.integers(1, 8), st.data())
def test_windows_of_a_text_are_its_whole_length(lengths, room, data):
    overlap = data.draw(st.integers(0, room - 1))
    cut = {0: 40} if lengths and data.draw(st.booleans()) else {}
    parts = [
        (row, end - start + SINGLE_SPECIAL)
        for row, length in enumerate(lengths)
        for start, end in windows(length, room, overlap)
    ]
    wanted = [cut.get(row, length + SINGLE_SPECIAL) for row, length in enumerate(lengths)]
    assert whole_lengths(parts, cut, len(lengths), overlap).tolist() == wanted
