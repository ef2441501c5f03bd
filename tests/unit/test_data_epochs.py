"""Which examples make up a batch."""

import numpy as np
import pytest

from bert_jax.data.epochs import batches_per_epoch, dealt_batches, epoch_batches, ordered_batches


def lengths_of(count, longest=60):
    return np.random.default_rng(0).integers(3, longest + 1, count).tolist()


def epoch(count, *, seed=1, epoch=0):
    return list(epoch_batches(count, batch_size=4, seed=seed, epoch=epoch))


def order_of(batches):
    return [int(n) for batch in batches for n in batch]


@pytest.mark.parametrize("count", [1, 3, 4, 130, 301])
def test_an_epoch_has_each_example_once(count):
    batches = epoch(count)
    assert sorted(order_of(batches)) == list(range(count))
    assert [len(batch) for batch in batches[:-1]] == [4] * (batches_per_epoch(count, 4) - 1)


def test_an_epoch_is_a_function_of_seed_and_epoch():
    once = order_of(epoch(200, seed=1, epoch=2))
    assert order_of(epoch(200, seed=1, epoch=2)) == once
    others = [epoch(200, seed=1, epoch=3), epoch(200, seed=2, epoch=2)]
    assert len({tuple(order) for order in (once, *map(order_of, others))}) == 3


def test_dealt_batches_have_as_many_tokens_each():
    lengths = lengths_of(41)
    found = list(dealt_batches(lengths, batch_size=12))
    assert [len(batch) for batch in found] == [11, 10, 10, 10]
    assert sorted(order_of(found)) == list(range(41))
    tokens = [sum(lengths[i] for i in batch) for batch in found]
    assert max(tokens) - min(tokens) <= max(lengths)


def test_ordered_batches_go_from_the_longest_down():
    lengths = lengths_of(10)
    found = list(ordered_batches(lengths, batch_size=4))
    assert [len(batch) for batch in found] == [4, 4, 2]
    assert sorted(order_of(found)) == list(range(10))
    assert (np.diff([lengths[i] for i in order_of(found)]) <= 0).all()
