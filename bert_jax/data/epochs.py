"""Which examples make up each batch: near-equal lengths together, every example once."""

from collections.abc import Iterator, Sequence

import numpy as np

# Batches are cut from runs of this many batches sorted by length: long enough for little
# padding, short enough that the order of an epoch stays random.
BATCHES_SORTED_TOGETHER = 32


def epoch_batches(
    lengths: Sequence[int], *, batch_size: int, seed: int, epoch: int
) -> Iterator[np.ndarray]:
    """The indices of every batch of a shuffled pass, a pure function of (seed, epoch).

    One of them is smaller where the examples do not divide.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    # Never a large part of the epoch, or every epoch would sort into the same batches.
    together = min(BATCHES_SORTED_TOGETHER, max(len(order) // batch_size // 8, 1))
    window = batch_size * together
    batches: list[np.ndarray] = []
    for start in range(0, len(order), window):
        part = order[start : start + window]
        part = part[np.argsort([lengths[i] for i in part], kind="stable")]
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    for i in rng.permutation(len(batches)):
        yield batches[i]


def ordered_batches(lengths: Sequence[int], *, batch_size: int) -> Iterator[np.ndarray]:
    """The indices of every batch of one pass by length."""
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
