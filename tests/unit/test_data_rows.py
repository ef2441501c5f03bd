"""Rows and how instances are packed into them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_jax.data.instances import DOES_NOT_FOLLOW, FOLLOWS, NO_LABEL, Instance
from bert_jax.data.rows import instance_length, make_row, mark, pack


def marked(*tokens):
    """Of ids; a negative one goes on a word."""
    return mark(np.abs(tokens, dtype=int), np.array(tokens) > 0)


def test_a_row_spelled_out():
    nothing = marked(1)[:0]
    instances = [
        Instance(marked(10, -11), marked(12), DOES_NOT_FOLLOW),
        Instance(marked(13), marked(14, -15, 16), FOLLOWS),
        Instance(marked(17, -18), nothing, NO_LABEL),
    ]
    row = make_row(instances, cls=2, sep=3)
    assert row.ids.tolist() == [2, 10, 11, 3, 12, 3, 2, 13, 3, 14, 15, 16, 3, 2, 17, 18, 3]
    goes_on = [10, 11, 14, 15, 17, 18]
    assert row.ids[~row.is_word_start].tolist() == goes_on[1::2]
    assert row.lengths.tolist() == [6, 7, 4] == [*map(instance_length, instances)]
    assert row.a_lengths.tolist() == [4, 3, 4]
    assert row.next_labels.tolist() == [1, 0, -1]
    dtypes = [array.dtype for array in row]
    assert dtypes == [np.int32, np.bool_, np.int32, np.int32, np.int8]


@given(st.lists(st.integers(1, 64), max_size=200), st.integers(64, 100))
def test_each_item_exactly_once_and_no_row_too_full(lengths, capacity):
    rows = pack(lengths, capacity)
    assert sorted(item for row in rows for item in row) == list(range(len(lengths)))
    assert all(0 < sum(lengths[item] for item in row) <= capacity for row in rows)


def slow_pack(lengths, capacity):
    """Best fit decreasing by looking at every row for every item."""
    rows, rooms = [], []
    for item in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fitting = [row for row, room in enumerate(rooms) if room >= lengths[item]]
        if not fitting:
            rows.append([])
            rooms.append(capacity)
            fitting = [len(rows) - 1]
        best = min(fitting, key=lambda row: rooms[row])
        rows[best].append(item)
        rooms[best] -= lengths[item]
    return sorted(rooms)


@given(st.lists(st.integers(1, 30), max_size=80))
def test_rows_are_filled_as_by_the_plain_algorithm(lengths):
    rows = pack(lengths, 30)
    assert sorted(30 - sum(lengths[i] for i in row) for row in rows) == slow_pack(lengths, 30)


def test_best_fit_takes_the_fullest_row_that_still_has_room():
    # 7, 6 and 5 open three rows with room for 3, 4 and 5. First fit would put the 3 into
    # the row of the 7 as well, but worst fit into that of the 5; then the 4 and the 5 tell.
    assert sorted(map(sorted, pack([7, 6, 5, 5, 4, 3], 10))) == [[0, 5], [1, 4], [2, 3]]
    # Room 4 (by the 6) and room 2 (by the 8): the 2 goes where it fits best, the 4 still fits.
    assert sorted(map(sorted, pack([6, 8, 2, 4], 10))) == [[0, 3], [1, 2]]


@pytest.mark.parametrize("capacity", [128, 512])
def test_a_realistic_mix_of_lengths_fills_the_rows(capacity):
    # As Wikipedia cut at 512 tokens: a fifth of the instances is full, and the mean is
    # half of the row (Krell et al., arXiv:2107.02027, figure 1).
    rng = np.random.default_rng(0)
    short = np.maximum(5, rng.beta(1.0, 1.7, 6000) * capacity).astype(int)
    lengths = np.concatenate([np.full(1700, capacity), short]).tolist()
    rows = pack(lengths, capacity)
    assert sum(lengths) / (len(rows) * capacity) >= 0.97
    assert len(lengths) / len(rows) > 1.9
