"""Which examples make up each batch of a pass over all of them."""

from collections.abc import Iterator, Sequence

import numpy as np


def batches_per_epoch(count: int, batch_size: int) -> int:
    """How many `epoch_batches` gives."""
    return -(-count // batch_size)


def epoch_batches(count: int, *, batch_size: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """The indices of every batch of a shuffled pass, a pure function of (seed, epoch).

    Of any examples, not of such as are equally long: length and label hang together, and batches
    of few labels train worse. The last one is smaller where the examples do not divide.
    """
    order = np.random.default_rng([seed, epoch]).permutation(count)
    for start in range(0, count, batch_size):
        yield order[start : start + batch_size]


def dealt_batches(lengths: Sequence[int], *, batch_size: int) -> Iterator[np.ndarray]:
    """The indices of every batch of one pass that is dealt out by length, so that all batches have
    about as many tokens; their sizes differ by one at most."""
    count = batches_per_epoch(len(lengths), batch_size)
    order = np.argsort(np.negative(lengths), kind="stable")
    for first in range(count):
        yield order[first::count]


def ordered_batches(lengths: Sequence[int], *, batch_size: int) -> Iterator[np.ndarray]:
    """The indices of every batch of one pass by length, the longest first: a last batch that must
    be filled up is of short ones."""
    order = np.argsort(np.negative(lengths), kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
