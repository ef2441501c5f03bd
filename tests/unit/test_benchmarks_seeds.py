"""One batch made of those of several seeds."""

import itertools

import jax
import numpy as np
import pytest
import small

from bert_jax.data.shapes import Shape
from bert_jax.tasks.batches import packed
from bert_jax.tasks.classify import Classify
from bert_jax.text.labelled import LabelledText
from tests.benchmarks.seeds import shapes, together

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


@pytest.mark.parametrize(
    ("words", "shape"),
    [
        (([30] * SIZE, [2] * SIZE, [2, 30] * 3), (SIZE, 32)),
        (([2] * SIZE, [30] * 2), (2, 32)),
        (([2] * SIZE, [3] * SIZE), (3, 16)),
    ],
)
def test_each_seed_finds_its_batch_in_the_shape_of_the_largest(words, shape):
    task, parts = parts_of(*words)
    of_all = together(task, parts, SIZE, multiple=1)
    assert of_all.tokens.rows.ids.shape == (len(parts), *shape)
    for seed, part in enumerate(parts):
        mine = jax.tree.map(lambda array, seed=seed: array[seed], of_all)
        jax.tree.map(np.testing.assert_array_equal, mine, packed(task, part, SIZE, Shape(*shape)))


def test_shapes_are_counted_once():
    task, (part, other) = parts_of([2] * SIZE, [3] * SIZE)
    four, eight = (packed(task, part, SIZE, Shape(rows, 16)) for rows in (4, 8))
    assert shapes([four, eight, packed(task, other, SIZE, Shape(4, 16))]) == 2
