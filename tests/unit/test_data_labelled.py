"""Labelled texts to batches."""

import numpy as np
import pytest

from bert_jax.data.labelled import (
    Example,
    bucket,
    encode_texts,
    epoch_batches,
    label_ids,
    make_batch,
    ordered_batches,
)
from bert_jax.errors import InputError
from bert_jax.text import tokenizer as tokenizers
from bert_jax.text.labelled import LabelledText

PAD = 6


def make_examples(count, longest=60):
    """Each example's label is its number, so that it can be found again."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(3, longest + 1, count)
    return [Example(np.full(n, 10 + i, np.int32), i) for i, n in enumerate(sizes)]


def epoch(examples, *, batch_size=4, seed=1, epoch=0):
    return list(
        epoch_batches(
            examples, batch_size=batch_size, max_length=64, pad=PAD, seed=seed, epoch=epoch
        )
    )


def order_of(batches):
    return [int(n) for batch in batches for n in batch.labels[batch.weights == 1]]


@pytest.mark.parametrize(
    ("length", "max_length", "size"),
    [
        (1, 128, 16),
        (16, 128, 16),
        (17, 128, 32),
        (33, 128, 64),
        (65, 128, 128),
        (65, 100, 100),
        (128, 128, 128),
        (12, 12, 12),
    ],
)
def test_bucket(length, max_length, size):
    assert bucket(length, max_length) == size


def test_a_batch_spelled_out():
    examples = [Example(np.array([3, 7, 5], np.int32), 1), Example(np.array([3, 5], np.int32), 2)]
    batch = make_batch(examples, 3, 4, PAD)
    assert batch.tokens.ids.tolist() == [[3, 7, 5, PAD], [3, 5, PAD, PAD], [PAD] * 4]
    assert batch.tokens.segments.tolist() == [[0] * 4] * 3
    assert batch.tokens.positions.tolist() == [[0, 1, 2, 0], [0, 1, 0, 0], [0] * 4]
    assert batch.tokens.instances.tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [0] * 4]
    assert batch.labels.tolist() == [1, 2, 0]
    assert batch.weights.tolist() == [1, 1, 0]


@pytest.mark.parametrize("count", [1, 3, 4, 130, 301])
def test_an_epoch_has_each_example_once_and_fills_up_with_weight_0(count):
    examples = make_examples(count)
    batches = epoch(examples)
    assert sorted(order_of(batches)) == list(range(count))
    assert len(batches) == -(-count // 4)
    for batch in batches:
        assert batch.weights.shape == (4,)
        assert (batch.tokens.instances[batch.weights == 0] == 0).all()
        for ids, label, weight in zip(batch.tokens.ids, batch.labels, batch.weights, strict=True):
            if weight:
                real = examples[label].ids
                assert ids.tolist() == [*real, *[PAD] * (len(ids) - len(real))]


def test_an_epoch_is_a_function_of_seed_and_epoch():
    examples = make_examples(200)
    once = epoch(examples, seed=1, epoch=2)
    for ours, theirs in zip(once, epoch(examples, seed=1, epoch=2), strict=True):
        assert ours.tokens.ids.tolist() == theirs.tokens.ids.tolist()
        assert ours.labels.tolist() == theirs.labels.tolist()
    others = [epoch(examples, seed=1, epoch=3), epoch(examples, seed=2, epoch=2)]
    assert len({tuple(order_of(batches)) for batches in [once, *others]}) == 3


def test_the_batches_of_an_epoch_are_of_like_length_and_in_random_order():
    examples = make_examples(512)
    batches = epoch(examples)
    tokens = sum(len(example.ids) for example in examples)
    # At random, the longest of four texts of 3 to 60 tokens fills a row to about 55 %.
    assert tokens / sum(batch.tokens.ids.size for batch in batches) > 0.7
    # Batches are cut from runs sorted by length, and yet do not come in that order.
    widths = [batch.tokens.ids.shape[1] for batch in epoch(examples[:128])]
    assert set(widths) == {16, 32, 64}
    assert widths != sorted(widths)


def test_ordered_batches_go_by_length_and_name_their_rows():
    examples = make_examples(10)
    found = list(ordered_batches(examples, batch_size=4, max_length=64, pad=PAD))
    order = np.concatenate([indices for indices, _ in found])
    assert sorted(order) == list(range(10))
    assert (np.diff([len(examples[i].ids) for i in order]) >= 0).all()
    for indices, batch in found:
        assert batch.labels[batch.weights == 1].tolist() == indices.tolist()


def test_texts_are_cut_to_the_length_and_the_cut_ones_counted(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("a\nb\n[MASK]\n[CLS]\n[UNK]\n[SEP]\n[PAD]\n")
    rows, cut = encode_texts(["a b", "a b a", "a b a b"], tokenizers.load(path), max_length=5)
    assert [row.tolist() for row in rows] == [[3, 0, 1, 5], [3, 0, 1, 0, 5], [3, 0, 1, 0, 5]]
    assert cut == 1
    assert rows[0].dtype == np.int32


def test_label_ids_are_indices_of_the_known_labels():
    rows = [LabelledText("x", label, "f:1") for label in ("pos", "neg", "pos")]
    assert label_ids(rows, ["neg", "pos"]) == [1, 0, 1]


def test_a_label_never_seen_names_the_line_and_the_known_ones():
    rows = [LabelledText("x", "neg", "test.csv:2"), LabelledText("y", "mixed", "test.csv:3")]
    with pytest.raises(InputError, match=r"test\.csv:3: label 'mixed'.*known: neg, pos"):
        label_ids(rows, ["neg", "pos"])
