"""The batches of a fine-tuning and its evaluation: short texts share rows."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import PyTree

from bert_jax.data.encoding import pack_tokens
from bert_jax.data.epochs import batches_per_epoch, dealt_batches, epoch_batches
from bert_jax.data.shapes import Costs, Shape, Shapes, common_shape
from bert_jax.tasks.task import Task

SAMPLED_SEEDS, SAMPLES = 4, 256  # batches of each, by which the shapes of all are chosen


class Batches:
    """Endless batches of a task's examples, pass after pass, each shuffled anew by the seed."""

    def __init__(
        self, task: Task, examples: Sequence[Any], shapes: Shapes, *, batch_size: int, seed: int
    ):
        self._task = task
        self._examples = examples
        self._shapes = shapes
        self._batch_size = batch_size
        self._seed = seed
        self.steps_per_epoch = batches_per_epoch(len(examples), batch_size)

    def from_step(self, step: int) -> Iterator[PyTree]:
        """Those that are read after `step` of them."""
        batches = random_batches(
            self._examples, batch_size=self._batch_size, seed=self._seed, step=step
        )
        for examples in batches:
            shape = self._shapes.of(text_lengths(self._task, examples))
            yield packed(self._task, examples, self._batch_size, shape)

    def name(self, step: int) -> str:
        """Of the one that step number `step`, from 1, reads."""
        epoch, batch = divmod(step - 1, self.steps_per_epoch)
        return f"batch {batch + 1} of epoch {epoch + 1}"


def random_batches(
    examples: Sequence[Any], *, batch_size: int, seed: int, step: int
) -> Iterator[list[Any]]:
    """The examples of each batch after `step` of them, endlessly."""
    first, skip = divmod(step, batches_per_epoch(len(examples), batch_size))
    for epoch in itertools.count(first):
        batches = epoch_batches(len(examples), batch_size=batch_size, seed=seed, epoch=epoch)
        for indices in itertools.islice(batches, skip, None):
            yield [examples[i] for i in indices]
        skip = 0


def choose_shapes(
    task: Task,
    examples: Sequence[Any],
    costs: Costs,
    *,
    batch_size: int,
    steps: int,
    multiple: int,
) -> Shapes:
    """For a run of so many steps; the number of rows is a multiple of `multiple`.

    Whatever its seed, so that several runs are compiled for once, and as if it were the only one,
    so that a seed is the same run alone and among others.
    """
    samples = [
        text_lengths(task, chosen)
        for seed in range(SAMPLED_SEEDS)
        for chosen in itertools.islice(
            random_batches(examples, batch_size=batch_size, seed=seed, step=0), min(steps, SAMPLES)
        )
    ]
    return Shapes(samples, costs, steps=steps, max_length=task.max_length, multiple=multiple)


def even_batches(
    task: Task, examples: Sequence[Any], *, batch_size: int, multiple: int
) -> Iterator[tuple[np.ndarray, PyTree]]:
    """One pass in batches of one shape: the indices of each and the batch, whose texts share rows.

    Each has long and short texts; the number of rows is a multiple of `multiple`.
    """
    parts = list(dealt_batches([example.length for example in examples], batch_size=batch_size))
    texts = [text_lengths(task, [examples[i] for i in part]) for part in parts]
    shape = common_shape(texts, max_length=task.max_length, multiple=multiple)
    for part in parts:
        yield part, packed(task, [examples[i] for i in part], batch_size, shape)


def text_lengths(task: Task, examples: Sequence[Any]) -> list[int]:
    """In tokens, of every text of the examples, which may have several each."""
    longest = max(example.length for example in examples)
    lengths = task.batch(examples, len(examples), longest).tokens.is_token.sum(axis=1)
    return lengths[lengths > 0].tolist()


def packed(task: Task, examples: Sequence[Any], batch_size: int, shape: Shape) -> PyTree:
    """A batch whose texts share rows of that shape."""
    batch = task.batch(examples, batch_size, shape.length)
    pad = task.tokenizer.special.pad
    return batch._replace(tokens=pack_tokens(batch.tokens, rows=shape.rows, pad=pad))
