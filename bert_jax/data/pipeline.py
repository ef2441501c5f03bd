"""Stored rows to batches: shuffled, masked afresh every epoch, split over hosts.

Sample number n of a run is a pure function of (seed, n), and global batch s is the
samples from s * batch_size on, whatever the number of hosts. So the position of a run
in its data is one integer: the number of samples read.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import grain
import numpy as np

from bert_jax.arrays import PretrainBatch, Tokens
from bert_jax.config import MaskingConfig
from bert_jax.data.instances import DOES_NOT_FOLLOW, NO_LABEL
from bert_jax.data.masking import MaskedRow, mask_row, random_replacements
from bert_jax.data.rows import Row
from bert_jax.text.tokenizer import Tokenizer


class Sample(NamedTuple):
    """A row as stored, and what of it is masked this time."""

    row: Row
    masked: MaskedRow


def training_batches(
    rows: grain.sources.RandomAccessDataSource[Row],
    tokenizer: Tokenizer,
    masking: MaskingConfig,
    *,
    length: int,
    max_instances: int,
    batch_size: int,
    seed: int,
    host: int = 0,
    hosts: int = 1,
    first_sample: int = 0,
) -> grain.MapDataset:
    """This host's part of every global batch, for ever: element s belongs to step s.

    `batch_size` is the global one and a multiple of `hosts`. `first_sample` is the number
    of samples read before, in batches of another size.
    """
    samples = (
        grain.MapDataset.source(rows)
        .seed(seed)
        .shuffle()
        .repeat(None)
        .random_map(_Mask(tokenizer, masking))
    )
    stack = _Stack(length, max_instances, masking.max_predictions, tokenizer.special.pad)
    if first_sample:
        samples = samples[first_sample:]
    # Nothing is dropped: without drop_remainder grain rounds the endless length up, past
    # the largest index when a host's part is one row.
    batches = samples.batch(batch_size // hosts, drop_remainder=True, batch_fn=stack)
    return batches[host::hosts]


def heldout_batches(
    rows: grain.sources.RandomAccessDataSource[Row],
    tokenizer: Tokenizer,
    masking: MaskingConfig,
    *,
    length: int,
    max_instances: int,
    batch_size: int,
    seed: int,
    host: int = 0,
    hosts: int = 1,
) -> grain.MapDataset:
    """One epoch in stored order with masks fixed by the seed; the last batch filled with
    rows of weight 0."""
    samples = grain.MapDataset.source(rows).seed(seed).random_map(_Mask(tokenizer, masking))
    if padding := -len(samples) % batch_size:
        nothing = grain.MapDataset.source([_nothing()] * padding)
        samples = grain.MapDataset.concatenate([samples, nothing])
    stack = _Stack(length, max_instances, masking.max_predictions, tokenizer.special.pad)
    return samples.batch(batch_size // hosts, batch_fn=stack)[host::hosts]


def iterate_from(
    batches: grain.MapDataset, step: int, *, threads: int = 1, prefetch: int = 8
) -> Iterator[PretrainBatch]:
    """The batches of step, step + 1, ... with a few read ahead by threads."""
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
    return iter(batches[step:].to_iter_dataset(options))


def example_batch(
    *, rows: int, length: int, max_instances: int, max_predictions: int
) -> PretrainBatch:
    """A batch that is all padding: for shapes and for initialising parameters."""
    return _Stack(length, max_instances, max_predictions, pad=0)([_nothing()] * rows)


def _nothing() -> Sample:
    none = np.zeros(0, np.int32)
    return Sample(Row(none, none, none, none, none), MaskedRow(none, none, none))


class _Mask:
    """A row with its masks drawn."""

    def __init__(self, tokenizer: Tokenizer, masking: MaskingConfig):
        self._masking = masking
        self._mask_id = tokenizer.special.mask
        self._replacements = random_replacements(
            masking, vocab_size=tokenizer.vocab_size, special=tokenizer.special
        )

    def __call__(self, row: Row, rng: np.random.Generator) -> Sample:
        masked = mask_row(
            row, self._masking, mask_id=self._mask_id, replacements=self._replacements, rng=rng
        )
        return Sample(row, masked)


class _Stack:
    """Samples to the arrays of a batch, padded to one shape."""

    def __init__(self, length: int, max_instances: int, max_predictions: int, pad: int):
        self._length = length
        self._max_instances = max_instances
        self._max_predictions = max_predictions
        self._pad = pad

    def __call__(self, samples: Sequence[Sample]) -> PretrainBatch:
        batch = self._empty(len(samples))
        for number, (row, masked) in enumerate(samples):
            used, count, filled = len(row.ids), len(row.lengths), len(masked.positions)
            starts = np.cumsum(row.lengths) - row.lengths
            within = np.arange(used) - np.repeat(starts, row.lengths)
            batch.tokens.ids[number, :used] = masked.ids
            batch.tokens.segments[number, :used] = within >= np.repeat(row.a_lengths, row.lengths)
            batch.tokens.positions[number, :used] = within
            batch.tokens.instances[number, :used] = np.repeat(np.arange(1, count + 1), row.lengths)
            batch.mask_positions[number, :filled] = masked.positions
            batch.mask_labels[number, :filled] = masked.labels
            batch.mask_weights[number, :filled] = 1
            batch.cls_positions[number, :count] = starts
            batch.next_labels[number, :count] = row.next_labels == DOES_NOT_FOLLOW
            batch.next_weights[number, :count] = row.next_labels != NO_LABEL
        return batch

    def _empty(self, rows: int) -> PretrainBatch:
        def zeros(size: int, dtype: type = np.int32) -> np.ndarray:
            return np.zeros((rows, size), dtype)

        ids = np.full((rows, self._length), self._pad, np.int32)
        of_tokens, of_masks, of_instances = self._length, self._max_predictions, self._max_instances
        return PretrainBatch(
            tokens=Tokens(ids, zeros(of_tokens), zeros(of_tokens), zeros(of_tokens)),
            mask_positions=zeros(of_masks),
            mask_labels=zeros(of_masks),
            mask_weights=zeros(of_masks, np.float32),
            cls_positions=zeros(of_instances),
            next_labels=zeros(of_instances),
            next_weights=zeros(of_instances, np.float32),
        )
