"""The batches of a fine-tuning: random examples, short ones sharing rows."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import PyTree

from bert_jax.data.encoding import bucket, pack_tokens
from bert_jax.data.epochs import batches_per_epoch, epoch_batches
from bert_jax.tasks.task import Task


class Batches:
    """Endless batches of a task's examples, pass after pass, each shuffled anew by the seed.

    Rows are as long as the longest example of a batch needs, a power of two of tokens or the most
    that the task reads, and their number is a multiple of `shards`.
    """

    def __init__(
        self, task: Task, examples: Sequence[Any], *, batch_size: int, seed: int, shards: int
    ):
        self._task = task
        self._examples = examples
        self._batch_size = batch_size
        self._seed = seed
        self._shards = shards
        self.steps_per_epoch = batches_per_epoch(len(examples), batch_size)

    def from_step(self, step: int) -> Iterator[PyTree]:
        """Those that are read after `step` of them."""
        epoch, skip = divmod(step, self.steps_per_epoch)
        while True:
            for indices in itertools.islice(self._indices(epoch), skip, None):
                yield self._packed([self._examples[i] for i in indices])
            epoch, skip = epoch + 1, 0

    def name(self, step: int) -> str:
        """Of the one that step number `step`, from 1, reads."""
        epoch, batch = divmod(step - 1, self.steps_per_epoch)
        return f"batch {batch + 1} of epoch {epoch + 1}"

    def _indices(self, epoch: int) -> Iterator[np.ndarray]:
        return epoch_batches(
            len(self._examples), batch_size=self._batch_size, seed=self._seed, epoch=epoch
        )

    def _packed(self, examples: Sequence[Any]) -> PyTree:
        length = bucket(max(example.length for example in examples), self._task.max_length)
        return packed(self._task, examples, self._batch_size, length, shards=self._shards)


def packed(
    task: Task, examples: Sequence[Any], batch_size: int, length: int, *, shards: int
) -> PyTree:
    """A batch whose short examples share rows of `length`, a multiple of `shards` of them."""
    batch = task.batch(examples, batch_size, length)
    pad = task.tokenizer.special.pad
    return batch._replace(tokens=pack_tokens(batch.tokens, multiple=shards, pad=pad))
