"""The batches of a fine-tuning: random examples, short ones sharing rows."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import PyTree

from bert_jax.data.encoding import bucket, pack_tokens
from bert_jax.data.epochs import batches_per_epoch, epoch_batches
from bert_jax.tasks.task import Task

BATCHES_COUNTED = 32


class Batches:
    """Endless batches of a task's examples, pass after pass, each shuffled anew by the seed.

    Rows are as long in every batch, `length` tokens, and their number is a multiple of `shards`.
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
        self.length = bucket(max(example.length for example in examples), task.max_length)

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

    def mean_rows(self) -> float:
        """Rows of a batch, by the first ones."""
        first = itertools.islice(self.from_step(0), min(BATCHES_COUNTED, self.steps_per_epoch))
        return float(np.mean([len(batch.tokens.rows.ids) for batch in first]))

    def _indices(self, epoch: int) -> Iterator[np.ndarray]:
        return epoch_batches(
            len(self._examples), batch_size=self._batch_size, seed=self._seed, epoch=epoch
        )

    def _packed(self, examples: Sequence[Any]) -> PyTree:
        batch = self._task.batch(examples, self._batch_size, self.length)
        pad = self._task.tokenizer.special.pad
        return batch._replace(tokens=pack_tokens(batch.tokens, multiple=self._shards, pad=pad))
