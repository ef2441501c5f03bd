"""The batches that a fine-tuning reads."""

import itertools

import jax
import numpy as np
import pytest
import small

from bert_jax.data.epochs import batches_per_epoch
from bert_jax.data.shapes import Costs
from bert_jax.tasks.batches import Batches, choose_shapes, even_batches, text_lengths
from bert_jax.tasks.choice import Choice
from bert_jax.tasks.classify import Classify
from bert_jax.text.choices import ChoiceText
from bert_jax.text.labelled import LabelledText

LETTERS = "abcdefghij"


def examples_of(words, max_length=64):
    """The task, and texts of so many words, with labels by turns."""
    task = Classify(("0", "1"), small.tokenizer(), max_length, 0)
    rows = [
        LabelledText(" ".join(LETTERS[n % 10] for n in range(count)), "", str(n % 2), "here")
        for n, count in enumerate(words)
    ]
    return task, task.encode(rows).examples


def batches_of(words, *, batch_size=8, shards=1, max_length=64, seed=1, of_compilation=0.0):
    """In shapes for two passes."""
    task, examples = examples_of(words, max_length)
    shapes = choose_shapes(
        task,
        examples,
        Costs(lambda shape: float(shape.rows * shape.length), of_compilation),
        batch_size=batch_size,
        steps=2 * batches_per_epoch(len(examples), batch_size),
        multiple=shards,
    )
    return Batches(task, examples, shapes, batch_size=batch_size, seed=seed)


def lengths_of(batch):
    """In tokens, of every example."""
    return batch.tokens.is_token.sum(axis=1)


def test_a_pass_has_each_example_once_and_the_next_another_order():
    batches = batches_of(range(1, 31))
    assert batches.steps_per_epoch == 4
    found = [lengths_of(batch) for batch in itertools.islice(batches.from_step(0), 8)]
    passes = [np.concatenate(found[:4]).tolist(), np.concatenate(found[4:]).tolist()]
    assert [sorted(one)[2:] for one in passes] == [list(range(3, 33))] * 2
    assert passes[0] != passes[1]


@pytest.mark.parametrize("step", [3, 4, 9])
def test_from_a_step_on_the_batches_are_those_of_a_whole_run(step):
    batches = batches_of(range(1, 31))
    whole = list(itertools.islice(batches.from_step(0), step, step + 6))
    rest = list(itertools.islice(batches.from_step(step), 6))
    jax.tree.map(np.testing.assert_array_equal, rest, whole)


def test_short_and_long_texts_meet_in_a_batch():
    batches = batches_of([1, 30] * 32)
    assert all(
        {3, 32} == set(lengths_of(batch)) for batch in itertools.islice(batches.from_step(0), 8)
    )


def test_rows_are_full_and_their_shapes_few():
    batches = batches_of([1, 2, 3, 5, 8, 13, 21, 30] * 64, batch_size=32, shards=2)
    found = list(itertools.islice(batches.from_step(0), batches.steps_per_epoch))
    shapes = [batch.tokens.rows.ids.shape for batch in found]
    assert {length for _, length in shapes} == {32}
    assert len(set(shapes)) < len(found)
    assert {rows % 2 for rows, _ in shapes} == {0}
    tokens = sum(int(batch.tokens.is_token.sum()) for batch in found)
    assert tokens / sum(rows * length for rows, length in shapes) > 0.8


def test_what_compiles_long_has_fewer_shapes():
    def shapes(of_compilation):
        batches = batches_of([1] * 70 + [30] * 10, seed=0, of_compilation=of_compilation)
        found = itertools.islice(batches.from_step(0), 2 * batches.steps_per_epoch)
        return {batch.tokens.rows.ids.shape for batch in found}

    assert len(shapes(0.0)) > len(shapes(600.0)) > len(shapes(1e9)) == 1


def test_even_batches_are_one_pass_in_one_shape():
    task, examples = examples_of([1, 2, 3, 30, 20] * 7)
    found = list(even_batches(task, examples, batch_size=8, multiple=2))
    assert sorted(np.concatenate([indices for indices, _ in found])) == list(range(35))
    assert len({batch.tokens.rows.ids.shape for _, batch in found}) == 1
    assert found[0][1].tokens.rows.ids.shape == (4, 32)
    for indices, batch in found:
        assert len(batch.tokens.places) == 8
        lengths = lengths_of(batch)
        assert lengths[: len(indices)].tolist() == [examples[i].length for i in indices]
        assert not lengths[len(indices) :].any()


def test_rows_of_few_and_of_many_choices_are_one_shape():
    task = Choice(("choice",), small.tokenizer(), 64, 0)
    rows = [ChoiceText("a b", "c", ("d",) * count, 0, "here") for count in (2, 4, 2, 3, 2, 2)]
    examples = task.encode(rows).examples
    found = [batch for _, batch in even_batches(task, examples, batch_size=2, multiple=1)]
    assert len({str(jax.tree.map(np.shape, batch)) for batch in found}) == 1
    assert found[0].is_choice.shape == (2, 4)


def test_every_text_of_an_example_has_a_length():
    task = Choice(("choice",), small.tokenizer(), 64, 0)
    rows = [
        ChoiceText("a b", "c", ("d", "d e f"), 0, "here"),
        ChoiceText("a", "", ("b", "c", "d"), 1, "here"),
    ]
    assert text_lengths(task, task.encode(rows).examples) == [7, 9, 5, 5, 5]


@pytest.mark.parametrize(("longest", "length"), [(2, 16), (20, 32), (33, 40), (70, 40)])
def test_a_row_is_as_long_as_the_batch_needs_and_the_model_takes(longest, length):
    batch = next(batches_of([1, longest], max_length=40).from_step(0))
    assert batch.tokens.rows.ids.shape[1] == length


def test_a_batch_is_named_by_its_place():
    batches = batches_of(range(1, 31))
    assert batches.name(1) == "batch 1 of epoch 1"
    assert batches.name(9) == "batch 1 of epoch 3"
