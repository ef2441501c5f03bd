"""One batch made of those of several seeds."""

import itertools

import jax
import numpy as np
import small

from bert_jax.tasks.classify import Classify
from bert_jax.text.labelled import LabelledText
from tests.benchmarks.seeds import in_rows, shapes, stacked

LETTERS = "abcdefghij"
SIZE = 8


def parts_of(*words):
    """A task, and the examples of texts of so many words, part by part."""
    task = Classify(("0", "1"), small.tokenizer(), 64, 0)
    letters = itertools.cycle(LETTERS)
    rows = [
        [
            LabelledText(" ".join(itertools.islice(letters, count)), "", str(n % 2), "here")
            for n, count in enumerate(part)
        ]
        for part in words
    ]
    return task, [task.encode(part).examples for part in rows]


def test_each_seed_finds_its_batch_with_empty_rows_behind():
    task, parts = parts_of([30] * SIZE, [2] * SIZE, [2, 30] * 3)
    alone = in_rows(task, parts, SIZE, shards=1)
    rows = [batch.tokens.rows.ids.shape[0] for batch in alone]
    assert shapes(alone) == len(set(rows)) == 3
    together = stacked(alone)
    for seed, (batch, count) in enumerate(zip(alone, rows, strict=True)):
        mine = jax.tree.map(lambda array, seed=seed: array[seed], together)
        tokens = mine.tokens.rows
        assert not tokens.is_token[count:].any()
        first = mine._replace(
            tokens=mine.tokens._replace(rows=jax.tree.map(lambda a, n=count: a[:n], tokens))
        )
        jax.tree.map(np.testing.assert_array_equal, first, batch)


def test_parts_are_as_long_as_the_longest_of_all():
    task, parts = parts_of([2] * SIZE, [30] * SIZE)
    assert {batch.tokens.rows.ids.shape[1] for batch in in_rows(task, parts, SIZE, shards=1)} == {
        32
    }
