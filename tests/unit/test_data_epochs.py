"""Which examples make up a batch."""

import numpy as np
import pytest

from bert_jax.data.encoding import bucket
from bert_jax.data.epochs import epoch_batches, ordered_batches


def lengths_of(count, longest=60):
    return np.random.default_rng(0).integers(3, longest + 1, count).tolist()


def epoch(lengths, *, batch_size=4, seed=1, epoch=0):
    return list(epoch_batches(lengths, batch_size=batch_size, seed=seed, epoch=epoch))


def order_of(batches):
    return [int(n) for batch in batches for n in batch]


@pytest.mark.parametrize("count", [1, 3, 4, 130, 301])
def test_an_epoch_has_each_example_once(count):
    batches = epoch(lengths_of(count))
    assert sorted(order_of(batches)) == list(range(count))
    assert sorted(map(len, batches))[1:] == [4] * (-(-count // 4) - 1)


def test_an_epoch_is_a_function_of_seed_and_epoch():
    lengths = lengths_of(200)
    once = order_of(epoch(lengths, seed=1, epoch=2))
    assert order_of(epoch(lengths, seed=1, epoch=2)) == once
    others = [epoch(lengths, seed=1, epoch=3), epoch(lengths, seed=2, epoch=2)]
    assert len({tuple(order) for order in (once, *map(order_of, others))}) == 3


def test_the_batches_of_an_epoch_are_of_like_length_and_in_random_order():
    lengths = lengths_of(512)
    padded = [[bucket(max(lengths[i] for i in b), 64)] * len(b) for b in epoch(lengths)]
    # At random, the longest of four texts of 3 to 60 tokens fills a row to about 55 %.
    assert sum(lengths) / sum(map(sum, padded)) > 0.7
    # Batches are cut from runs of four sorted by length, and yet do not come in that order.
    longest = [max(lengths[i] for i in batch) for batch in epoch(lengths[:128])]
    runs = [longest[start : start + 4] for start in range(0, 32, 4)]
    assert any(run != sorted(run) for run in runs)


def test_ordered_batches_go_by_length():
    lengths = lengths_of(10)
    found = list(ordered_batches(lengths, batch_size=4))
    assert [len(batch) for batch in found] == [4, 4, 2]
    assert sorted(order_of(found)) == list(range(10))
    assert (np.diff([lengths[i] for i in order_of(found)]) >= 0).all()
