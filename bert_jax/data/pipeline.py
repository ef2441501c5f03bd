"""Stored rows to batches: shuffled, masked afresh every epoch, split over hosts.

Sample number n of a run is a pure function of (seed, n), and global batch s is the
samples from s * batch_size on, whatever the number of hosts. So the position of a run
in its data is one integer: the step.
"""

from collections.abc import Iterator, Sequence

import grain
import numpy as np

from bert_jax.arrays import PretrainBatch, Tokens
from bert_jax.config import MaskingConfig
from bert_jax.data.masking import mask_row
from bert_jax.data.rows import Row
from bert_jax.text.tokenizer import Tokenizer


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
) -> grain.MapDataset:
    """This host's part of every global batch, for ever: element s belongs to step s.

    `batch_size` is the global one and a multiple of `hosts`.
    """
    samples = (
        grain.MapDataset.source(rows)
        .seed(seed)
        .shuffle()
        .repeat(None)
        .random_map(_MakeSample(tokenizer, masking, length, max_instances))
    )
    # Nothing is dropped: without drop_remainder grain rounds the endless length up, past
    # the largest index when a host's part is one row.
    batches = samples.batch(batch_size // hosts, drop_remainder=True, batch_fn=_stack)
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
    samples = (
        grain.MapDataset.source(rows)
        .seed(seed)
        .random_map(_MakeSample(tokenizer, masking, length, max_instances))
    )
    padding = -len(samples) % batch_size
    if padding:
        pad = tokenizer.special.pad
        empty = [_empty_sample(length, max_instances, masking.max_predictions, pad)] * padding
        samples = grain.MapDataset.concatenate([samples, grain.MapDataset.source(empty)])
    return samples.batch(batch_size // hosts, batch_fn=_stack)[host::hosts]


def iterate_from(
    batches: grain.MapDataset, step: int, *, threads: int = 1, prefetch: int = 8
) -> Iterator[PretrainBatch]:
    """The batches of step, step + 1, ... with a few read ahead by threads."""
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
    return iter(batches[step:].to_iter_dataset(options))


def example_batch() -> PretrainBatch:
    """The smallest batch, all padding: for shapes and for initialising parameters."""
    return _stack([_empty_sample(length=8, max_instances=1, max_predictions=1, pad=0)])


class _MakeSample:
    """A row with its masks as arrays of fixed shape: a PretrainBatch without the B axis."""

    def __init__(
        self, tokenizer: Tokenizer, masking: MaskingConfig, length: int, max_instances: int
    ):
        self._special = tokenizer.special
        self._vocab_size = tokenizer.vocab_size
        self._masking = masking
        self._length = length
        self._max_instances = max_instances

    def __call__(self, row: Row, rng: np.random.Generator) -> PretrainBatch:
        masked = mask_row(
            row,
            self._masking,
            vocab_size=self._vocab_size,
            mask_id=self._special.mask,
            rng=rng,
        )
        sample = _empty_sample(
            self._length, self._max_instances, self._masking.max_predictions, self._special.pad
        )
        used, count, filled = len(row.ids), len(row.lengths), len(masked.positions)
        starts = np.cumsum(row.lengths) - row.lengths
        within = np.arange(used) - np.repeat(starts, row.lengths)
        sample.tokens.ids[:used] = masked.ids
        sample.tokens.segments[:used] = within >= np.repeat(row.a_lengths, row.lengths)
        sample.tokens.positions[:used] = within
        sample.tokens.instances[:used] = np.repeat(np.arange(1, count + 1), row.lengths)
        sample.mask_positions[:filled] = masked.positions
        sample.mask_labels[:filled] = masked.labels
        sample.mask_weights[:filled] = 1
        sample.cls_positions[:count] = starts
        sample.next_labels[:count] = row.is_random_next
        sample.next_weights[:count] = 1
        return sample


def _empty_sample(length: int, max_instances: int, max_predictions: int, pad: int) -> PretrainBatch:
    def zeros(size: int, dtype: type = np.int32) -> np.ndarray:
        return np.zeros(size, dtype)

    ids = np.full(length, pad, np.int32)
    return PretrainBatch(
        tokens=Tokens(ids, zeros(length), zeros(length), zeros(length)),
        mask_positions=zeros(max_predictions),
        mask_labels=zeros(max_predictions),
        mask_weights=zeros(max_predictions, np.float32),
        cls_positions=zeros(max_instances),
        next_labels=zeros(max_instances),
        next_weights=zeros(max_instances, np.float32),
    )


def _stack(samples: Sequence[PretrainBatch]) -> PretrainBatch:
    tokens = Tokens(*map(np.stack, zip(*(sample.tokens for sample in samples), strict=True)))
    rest = map(np.stack, zip(*(sample[1:] for sample in samples), strict=True))
    return PretrainBatch(tokens, *rest)
