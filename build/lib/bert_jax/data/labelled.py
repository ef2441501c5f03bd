"""Labelled texts to batches of near-equal length, few shapes in all."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from bert_jax.arrays import ClassifyBatch, Tokens
from bert_jax.errors import InputError
from bert_jax.text.labelled import LabelledText
from bert_jax.text.tokenizer import Tokenizer

SMALLEST_BUCKET = 16
# Batches are cut from runs of this many batches sorted by length: long enough for little
# padding, short enough that the order of an epoch stays random.
BATCHES_SORTED_TOGETHER = 32


class Example(NamedTuple):
    """`[CLS] text [SEP]` and the index of its class."""

    ids: np.ndarray
    label: int


def encode_texts(
    texts: Sequence[str], tokenizer: Tokenizer, *, max_length: int
) -> tuple[list[np.ndarray], int]:
    """`[CLS] text [SEP]` as int32 ids, cut to max_length; and how many were cut."""
    pieces = tokenizer.encode_batch(list(texts))
    rows = [add_special(ids[: max_length - 2], tokenizer) for ids in pieces]
    return rows, sum(len(ids) > max_length - 2 for ids in pieces)


def add_special(ids: Sequence[int], tokenizer: Tokenizer) -> np.ndarray:
    """`[CLS] ids [SEP]`."""
    special = tokenizer.special
    return np.array([special.cls, *ids, special.sep], np.int32)


def label_ids(rows: Sequence[LabelledText], labels: Sequence[str]) -> list[int]:
    """The index of each row's label; a label that is not in `labels` is an InputError."""
    index = {label: i for i, label in enumerate(labels)}
    for row in rows:
        if row.label not in index:
            raise InputError(
                f"{row.where}: label {row.label!r} was never seen in training"
                f" (known: {', '.join(labels)}); correct it or leave the row out."
            )
    return [index[row.label] for row in rows]


def bucket(length: int, max_length: int) -> int:
    """The padded length: a power of two from SMALLEST_BUCKET, or max_length."""
    size = SMALLEST_BUCKET
    while size < length:
        size *= 2
    return min(size, max_length)


def epoch_batches(
    examples: Sequence[Example],
    *,
    batch_size: int,
    max_length: int,
    pad: int,
    seed: int,
    epoch: int,
) -> Iterator[ClassifyBatch]:
    """One shuffled pass, a pure function of (seed, epoch); the last rest is filled up.

    The rest below a whole batch is completed with rows of weight 0.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(examples))
    # Never a large part of the epoch, or every epoch would sort into the same batches.
    together = min(BATCHES_SORTED_TOGETHER, max(len(order) // batch_size // 8, 1))
    window = batch_size * together
    batches: list[np.ndarray] = []
    for start in range(0, len(order), window):
        part = order[start : start + window]
        part = part[np.argsort([len(examples[i].ids) for i in part], kind="stable")]
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    for i in rng.permutation(len(batches)):
        yield make_batch([examples[j] for j in batches[i]], batch_size, max_length, pad)


def ordered_batches(
    examples: Sequence[Example], *, batch_size: int, max_length: int, pad: int
) -> Iterator[tuple[np.ndarray, ClassifyBatch]]:
    """Every example once, by length, with the indices of the rows in each batch."""
    order = np.argsort([len(example.ids) for example in examples], kind="stable")
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        batch = make_batch([examples[i] for i in indices], batch_size, max_length, pad)
        yield indices, batch


def make_batch(
    examples: Sequence[Example], batch_size: int, max_length: int, pad: int
) -> ClassifyBatch:
    """Pads to the bucket of the longest example and to `batch_size` rows."""
    length = bucket(max(len(example.ids) for example in examples), max_length)
    ids = np.full((batch_size, length), pad, np.int32)
    instances = np.zeros((batch_size, length), np.int32)
    labels = np.zeros(batch_size, np.int32)
    weights = np.zeros(batch_size, np.float32)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = example.ids
        instances[row, : len(example.ids)] = 1
        labels[row] = example.label
        weights[row] = 1
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), ids.shape) * instances
    return ClassifyBatch(Tokens(ids, np.zeros_like(ids), positions, instances), labels, weights)
