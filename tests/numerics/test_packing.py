"""What the pipeline packs into one row computes what it computes one instance a row."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numerics.test_numpy_bert import CONFIG, TOLERANCE, biases_and_kernels, pretrain_params

from bert_jax.config import MaskingConfig
from bert_jax.data.instances import DOES_NOT_FOLLOW, FOLLOWS, NO_LABEL, Instance
from bert_jax.data.pipeline import heldout_batches
from bert_jax.data.rows import instance_length, make_row, mark, pack
from bert_jax.model.bert import PretrainModel
from bert_jax.tasks.pretrain import make_objective
from bert_jax.text import tokenizer as tokenizers

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES += [f"[unused{n}]" for n in range(CONFIG.vocab_size - len(PIECES))]
CLS, SEP = 2, 3
LENGTH = 32  # of a row; every instance has positions of its own
SIZES = [(5, 8), (3, 0), (1, 1), (4, 2), (2, 5), (7, 0), (1, 3), (2, 2)]  # tokens of A and B
# Every token is asked for and none replaced: the masks are the same in any row.
ALL = MaskingConfig(
    unit="token",
    span_words=1,
    rate=1.0,
    max_predictions=LENGTH,
    mask_share=0.0,
    random_share=0.0,
    random_special=True,
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "vocab.txt"
    path.write_text("".join(f"{piece}\n" for piece in PIECES))
    return tokenizers.load(path)


@functools.cache
def instances():
    rng = np.random.default_rng(5)

    def segment(size):
        return mark(rng.integers(5, CONFIG.vocab_size, size), np.ones(size, bool))

    labels = [NO_LABEL if not b else (FOLLOWS, DOES_NOT_FOLLOW)[a % 2] for a, b in SIZES]
    return [
        Instance(segment(a), segment(b), label) for (a, b), label in zip(SIZES, labels, strict=True)
    ]


def batch_of(rows, tokenizer):
    """The batch of such rows of instances, in their order, filled up with empty ones."""
    made = [make_row(row, cls=CLS, sep=SEP) for row in rows]
    batches = heldout_batches(
        made, tokenizer, ALL, length=LENGTH, max_instances=5, batch_size=len(SIZES), seed=0
    )
    return jax.tree.map(jnp.asarray, batches[0])


def packed_rows():
    groups = pack([*map(instance_length, instances())], LENGTH)
    assert max(map(len, groups)) >= 3
    return [[instances()[i] for i in group] for group in groups]


@jax.jit
def gradient_and_losses(params, batch):
    """Both losses over the weight of the batch, that weight, and the gradient of their sum."""
    objective = make_objective(PretrainModel(CONFIG, None))
    weights = objective.weights(batch)

    def total(params):
        means, _ = objective.losses(params, batch, None)
        losses = {name: mean.total / jnp.maximum(weights[name], 1) for name, mean in means.items()}
        return sum(losses.values()), losses

    return *jax.grad(total, has_aux=True)(params), weights


def test_the_same_instances_packed_and_alone_have_the_same_losses_and_gradients(tokenizer):
    params, one_a_row = pretrain_params(), [[one] for one in instances()]
    gradient, losses, weights = gradient_and_losses(params, batch_of(packed_rows(), tokenizer))
    alone, alone_losses, alone_weights = gradient_and_losses(params, batch_of(one_a_row, tokenizer))
    assert weights == alone_weights
    for name in ("mlm_loss", "next_loss"):
        np.testing.assert_allclose(losses[name], alone_losses[name], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TOLERANCE), gradient, alone)
    assert all(np.abs(leaf).max() > 1e-3 for leaf in biases_and_kernels(gradient))


def test_what_has_no_label_weighs_nothing_in_the_next_sentence_loss(tokenizer):
    params = pretrain_params()
    first, second, *_ = [one for one in instances() if one.next_label == NO_LABEL]
    labelled = instances()[0]
    _, losses, weights = gradient_and_losses(
        params, batch_of([[labelled, first], [second]], tokenizer)
    )
    _, alone, alone_weights = gradient_and_losses(params, batch_of([[labelled]], tokenizer))
    assert weights["next_loss"] == alone_weights["next_loss"] == 1
    assert weights["mlm_loss"] > alone_weights["mlm_loss"]
    np.testing.assert_allclose(losses["next_loss"], alone["next_loss"], rtol=1e-5)
    gradient, losses, weights = gradient_and_losses(
        params, batch_of([[first], [second]], tokenizer)
    )
    assert losses["next_loss"] == weights["next_loss"] == 0
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient["next"]))


@pytest.fixture(scope="module")
def row(tokenizer):
    """One row of several instances, and where each lies."""
    (first, *_) = [row for row in packed_rows() if len(row) >= 3]
    lengths = [*map(instance_length, first)]
    return batch_of([first], tokenizer), np.cumsum([0, *lengths])


apply = jax.jit(functools.partial(PretrainModel(CONFIG, None).apply, deterministic=True))


def logits_of(batch):
    variables = {"params": pretrain_params()}
    found = apply(variables, batch.tokens, batch.mask_positions, batch.cls_positions)
    return map(np.asarray, found)


def test_no_instance_sees_another(row):
    batch, bounds = row
    mlm, following = logits_of(batch)
    count, slots = len(bounds) - 1, int(batch.mask_weights[0].sum())
    owner = np.searchsorted(bounds, np.asarray(batch.mask_positions[0, :slots]), "right") - 1

    @given(st.integers(0, count - 1), st.integers(1, CONFIG.vocab_size - 1), st.data())
    def check(changed, shift, data):
        place = data.draw(st.integers(bounds[changed], bounds[changed + 1] - 1))
        ids = batch.tokens.ids.at[0, place].add(shift) % CONFIG.vocab_size
        other = batch._replace(tokens=batch.tokens._replace(ids=ids))
        other_mlm, other_following = logits_of(other)
        moved = (other_mlm[0, :slots] != mlm[0, :slots]).any(axis=1)
        assert not moved[owner != changed].any()
        assert moved[owner == changed].all()
        moved = (other_following[0, :count] != following[0, :count]).any(axis=1)
        assert moved.tolist() == [number == changed for number in range(count)]

    check()
