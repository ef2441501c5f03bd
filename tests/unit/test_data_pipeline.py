"""Batches as a function of (seed, step, host, hosts), and every array of one of them."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from bert_jax.config import MaskingConfig
from bert_jax.data.instances import DOES_NOT_FOLLOW, FOLLOWS, Instance
from bert_jax.data.pipeline import heldout_batches, iterate_from, training_batches
from bert_jax.data.rows import make_row, mark
from bert_jax.text import tokenizer as tokenizers

# [PAD] is not 0 and [MASK] not 4, as in no vocabulary that code could have assumed.
PIECES = ["a", "b", "[MASK]", "[CLS]", "[UNK]", "[SEP]", "[PAD]", "c", "d", "e", "f", "g", "h"]
CLS, SEP, PAD, MASK = 3, 5, 6, 2
LENGTH, INSTANCES = 30, 3
MASKING = MaskingConfig(
    unit="token",
    span_words=3,
    rate=0.15,
    max_predictions=5,
    mask_share=0.8,
    random_share=0.1,
    random_special=True,
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "vocab.txt"
    path.write_text("".join(f"{piece}\n" for piece in PIECES))
    return tokenizers.load(path)


def make_rows(count):
    """Rows told apart by the length of A: row i has i + 1 tokens there."""
    return [
        make_row([instance([7] * (i + 1), [8, 9], label=i % 2)], cls=CLS, sep=SEP)
        for i in range(count)
    ]


def instance(a, b, label):
    return Instance(*(mark(np.array(ids), np.ones(len(ids), bool)) for ids in (a, b)), label)


def batches_of(tokenizer, *, make=training_batches, rows=12, batch_size=4, seed=1, **hosts):
    return make(
        make_rows(rows),
        tokenizer,
        MASKING,
        length=LENGTH,
        max_instances=INSTANCES,
        batch_size=batch_size,
        seed=seed,
        **hosts,
    )


def batches_of_hosts(tokenizer, hosts, **options):
    """What each of them reads of global batches of 8."""
    return [
        batches_of(tokenizer, batch_size=8, host=host, hosts=hosts, **options)
        for host in range(hosts)
    ]


def join(parts):
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def assert_same(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def row_numbers(batch):
    """Which row of make_rows each sample is."""
    return ((batch.tokens.segments == 0) & (batch.tokens.instances > 0)).sum(1) - 3


def test_a_packed_row_spelled_out(tokenizer):
    row = make_row(
        [instance([7, 8], [9], DOES_NOT_FOLLOW), instance([10], [11, 12, 7], FOLLOWS)],
        cls=CLS,
        sep=SEP,
    )
    # Chosen tokens stay as they are, so that the ids can be written down.
    masking = dataclasses.replace(MASKING, rate=0.3, mask_share=0.0, random_share=0.0)
    batches = training_batches(
        [row], tokenizer, masking, length=16, max_instances=3, batch_size=1, seed=0
    )
    batch = batches[0]
    (p,) = [PAD]
    expected = {
        "ids": [CLS, 7, 8, SEP, 9, SEP, CLS, 10, SEP, 11, 12, 7, SEP, p, p, p],
        "segments": [0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0],
        "positions": [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 6, 0, 0, 0],
        "instances": [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0],
    }
    for name, values in expected.items():
        assert getattr(batch.tokens, name).tolist() == [values], name
        assert getattr(batch.tokens, name).dtype == np.int32, name
    assert batch.cls_positions.tolist() == [[0, 6, 0]]
    assert batch.next_labels.tolist() == [[1, 0, 0]]
    assert batch.next_weights.tolist() == [[1, 1, 0]]
    # round(6 * 0.3) and round(7 * 0.3) are 2 each.
    assert batch.mask_weights.tolist() == [[1, 1, 1, 1, 0]]
    positions = batch.mask_positions[0]
    assert positions[4] == 0
    assert np.isin(positions[:2], [1, 2, 4]).all()
    assert np.isin(positions[2:4], [7, 9, 10, 11]).all()
    assert batch.mask_labels[0, :4].tolist() == row.ids[positions[:4]].tolist()
    assert batch.mask_labels[0, 4] == 0


def test_masked_tokens_are_replaced_in_the_ids(tokenizer):
    masking = dataclasses.replace(MASKING, rate=0.3, mask_share=1.0, random_share=0.0)
    batch = training_batches(
        make_rows(4), tokenizer, masking, length=LENGTH, max_instances=1, batch_size=4, seed=0
    )[0]
    hidden = [np.flatnonzero(ids == MASK).tolist() for ids in batch.tokens.ids]
    chosen = zip(batch.mask_positions, batch.mask_weights, strict=True)
    assert hidden == [positions[weights == 1].tolist() for positions, weights in chosen]
    assert all(hidden)


def test_sample_n_is_a_function_of_the_seed_and_n(tokenizer):
    small = join([batches_of(tokenizer, batch_size=2)[step] for step in range(12)])
    large = join([batches_of(tokenizer, batch_size=8)[step] for step in (2, 1, 0)][::-1])
    assert_same(small, large)
    other = join([batches_of(tokenizer, batch_size=8, seed=2)[step] for step in range(3)])
    assert row_numbers(other).tolist() != row_numbers(large).tolist()


@pytest.mark.parametrize("make", [training_batches, heldout_batches])
@pytest.mark.parametrize("hosts", [1, 2, 4, 8])
def test_any_number_of_hosts_makes_the_same_global_batches(tokenizer, make, hosts):
    rows = 20  # not a multiple of the batch
    alone = batches_of(tokenizer, make=make, rows=rows, batch_size=8)
    parts = batches_of_hosts(tokenizer, hosts, make=make, rows=rows)
    for step in range(3):
        assert parts[0][step].tokens.ids.shape == (8 // hosts, LENGTH)
        assert_same(join([part[step] for part in parts]), alone[step])


@pytest.mark.parametrize(("before", "after"), [(2, 4), (4, 2), (1, 8), (8, 1)])
def test_saved_on_some_hosts_and_continued_on_others_nothing_is_repeated_or_skipped(
    tokenizer, before, after
):
    rows, epoch = 24, 3  # steps
    saved, last = 2, 2 * epoch

    def read(hosts, first, stop):
        parts = [
            itertools.islice(iterate_from(part, first), stop - first)
            for part in batches_of_hosts(tokenizer, hosts, rows=rows)
        ]
        return [join(step) for step in zip(*parts, strict=True)]

    found = read(before, 0, saved) + read(after, saved, last)
    for step, batch in enumerate(read(1, 0, last)):
        assert_same(found[step], batch)
    for start in (0, epoch):
        numbers = row_numbers(join(found[start : start + epoch]))
        assert sorted(numbers) == list(range(rows))


@pytest.mark.parametrize("threads", [1, 3])
def test_starting_from_a_step_goes_on_exactly(tokenizer, threads):
    batches = batches_of(tokenizer)
    straight = list(itertools.islice(iterate_from(batches, 0), 9))
    resumed = list(itertools.islice(iterate_from(batches, 5, threads=threads), 4))
    for ours, theirs in zip(resumed, straight[5:], strict=True):
        assert_same(ours, theirs)
    assert not np.array_equal(straight[5].tokens.ids, straight[0].tokens.ids)


def test_an_epoch_is_every_row_once_in_a_new_order_with_new_masks(tokenizer):
    batches = batches_of(tokenizer)
    epochs = [join([batches[3 * epoch + step] for step in range(3)]) for epoch in range(3)]
    orders = [row_numbers(epoch) for epoch in epochs]
    assert all(sorted(order) == list(range(12)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    # Back in the order of the rows, the masks of two epochs can be compared.
    masks = [
        epoch.mask_positions[np.argsort(order)] for epoch, order in zip(epochs, orders, strict=True)
    ]
    for first, second in itertools.combinations(masks, 2):
        assert (first != second).any(axis=1).mean() > 0.5


def test_heldout_batches_are_fixed_and_the_last_is_filled_with_nothing(tokenizer):
    batches = batches_of(tokenizer, make=heldout_batches, rows=10)
    assert len(batches) == 3
    whole = join([batches[step] for step in range(3)])
    assert row_numbers(whole)[:10].tolist() == list(range(10))  # each once, as stored
    assert (whole.mask_weights[:10].sum(1) > 0).all()
    assert (whole.next_weights[:10].sum(1) == 1).all()
    assert whole.tokens.instances[10:].tolist() == [[0] * LENGTH] * 2
    assert (whole.tokens.ids[10:] == PAD).all()
    assert whole.mask_weights[10:].sum() == whole.next_weights[10:].sum() == 0

    again = batches_of(tokenizer, make=heldout_batches, rows=10)
    assert_same(join([again[step] for step in range(3)]), whole)
    other = batches_of(tokenizer, make=heldout_batches, rows=10, seed=2)
    assert not np.array_equal(join([other[i] for i in range(3)]).tokens.ids, whole.tokens.ids)


def test_heldout_batches_that_come_out_even_have_no_filling(tokenizer):
    batches = batches_of(tokenizer, make=heldout_batches, rows=8)
    assert len(batches) == 2
    assert join([batches[0], batches[1]]).next_weights.sum() == 8
