"""The numbers of a dataset, counted by hand."""

import numpy as np
import pytest

from bert_jax.data.instances import DOES_NOT_FOLLOW, FOLLOWS, Instance
from bert_jax.data.masking import MaskedRow
from bert_jax.data.rows import make_row, mark
from bert_jax.data.statistics import (
    Sample,
    sample_rows,
    split_statistics,
    spread,
    vocabulary_statistics,
)
from bert_jax.text.pieces import SpecialIds

COUNTS = {
    "documents": 10,
    "empty_documents": 0,
    "one_sentence_documents": 1,
    "longest_document": 90,
    "characters": 600,
    "sentences": 40,
    "words": 250,
    "tokens": 400,
    "unknown": 2,
    "instances": 8,
    "labelled": 5,
    "not_following": 2,
    "rows": 4,
    "row_tokens": 96,
    "most_instances": 3,
}
SAMPLE = Sample(np.array([3, 5, 7, 9]), np.array([1, 1, 2, 3]), np.array([1, 3]))


def instance(a, b, label):
    return Instance(*(mark(np.arange(size) + 10, np.ones(size, bool)) for size in (a, b)), label)


def test_a_sample_spelled_out():
    # 7 and 3 tokens, then 9.
    rows = [
        make_row([instance(3, 1, FOLLOWS), instance(1, 0, FOLLOWS)], cls=2, sep=3),
        make_row([instance(3, 3, DOES_NOT_FOLLOW)], cls=2, sep=3),
    ]
    # The last token of one instance and the first of the next are told apart.
    chosen = {10: [1, 6, 7], 9: [5]}

    def draw(row):
        positions = np.array(chosen[len(row.ids)], np.int32)
        return MaskedRow(row.ids, positions, row.ids[positions])

    found = sample_rows(rows, draw)
    assert found.lengths.tolist() == [7, 3, 9]
    assert found.masks.tolist() == [2, 1, 1]
    assert found.instances.tolist() == [2, 1]


def test_a_split_in_numbers():
    assert split_statistics(COUNTS, 30, SAMPLE)._asdict() == {
        "documents": 10,
        "sentences": 40,
        "words": 250,
        "tokens": 400,
        "characters_per_token": 1.5,
        "unknown_share": 0.005,
        "instances": 8,
        "labelled": 5,
        "not_following_share": 0.4,
        "rows": 4,
        "instances_per_row": 2,
        "filled_share": 0.8,  # 96 of 4 * 30
        "unpacked_filled_share": 0.4,  # 96 of 8 * 30
        "tokens_per_padding": 4,  # 96 and 24
        "unpacked_tokens_per_padding": pytest.approx(96 / 144),
        "sampled_rows": 2,
        "instance_length": 6,
        "instance_length_percentiles": pytest.approx((3.3, 6, 8.7)),
        "masks_per_instance": 1.75,
    }


def test_what_cannot_be_divided_is_none():
    full = COUNTS | {"row_tokens": 96, "labelled": 0, "not_following": 0}
    found = split_statistics(full, 24, SAMPLE)
    assert found.filled_share == 1
    assert found.tokens_per_padding is None
    assert found.not_following_share is None


def test_the_vocabulary_is_counted_without_its_special_pieces():
    # [UNK] (id 1) occurs often and counts for nothing.
    counts = np.array([0, 90, 0, 0, 0, 5, 4, 0, 60])
    found = vocabulary_statistics(counts, SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4))
    assert found == (4, 0.75, 0.5)


@pytest.mark.parametrize(
    ("total", "wanted", "indices"),
    [(10, 5, [0, 2, 4, 6, 8]), (7, 3, [0, 2, 4]), (3, 5, [0, 1, 2]), (0, 5, [])],
)
def test_rows_are_sampled_from_beginning_to_end(total, wanted, indices):
    assert spread(total, wanted).tolist() == indices
