"""The Flax model against a small numpy BERT, packed rows against plain ones."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numerics import numpy_bert
from small import model_config

from bert_jax.arrays import PretrainBatch, Tokens
from bert_jax.model.bert import ClassifyModel, PretrainModel
from bert_jax.model.layers import activation
from bert_jax.tasks.pretrain import init_params, make_objective

CONFIG = model_config(
    vocab_size=40, positions=16, width=12, heads=3, feed_forward=20, init_stddev=0.2
)
FORMS = ["erf", "tanh"]
LENGTH = 32
# (tokens of [CLS] A [SEP], tokens of B [SEP], places masked)
INSTANCES = [(5, 4, [1, 2, 6]), (3, 7, [5]), (8, 8, [2, 4, 12]), (3, 2, [1, 3])]
TOLERANCE = dict(rtol=1e-5, atol=1e-5)


def moved(params):
    """Parameters with no bias at 0 and no scale at 1, so that each of them tells."""
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: leaf + jnp.asarray(rng.normal(scale=0.1, size=leaf.shape), leaf.dtype), params
    )


@functools.cache
def pretrain_params():
    return moved(jax.jit(functools.partial(init_params, CONFIG))(jax.random.key(0)))


@functools.cache
def instances():
    rng = np.random.default_rng(2)
    return [
        dict(
            ids=rng.integers(CONFIG.vocab_size, size=a + b),
            segments=np.repeat([0, 1], [a, b]),
            masked=np.array(masked),
            labels=rng.integers(CONFIG.vocab_size, size=len(masked)),
            next_label=int(rng.integers(2)),
        )
        for a, b, masked in INSTANCES
    ]


def make_batch(rows, *, length=LENGTH, slots=8, most=3, filling=0):
    """Each row a list of instances, one after the other; filling ids in what is left."""
    size = len(rows)
    tokens = Tokens(*(np.zeros((size, length), np.int32) for _ in Tokens._fields))
    tokens.ids[:] = filling
    batch = PretrainBatch(
        tokens,
        *(np.zeros((size, slots), kind) for kind in (np.int32, np.int32, np.float32)),
        *(np.zeros((size, most), kind) for kind in (np.int32, np.int32, np.float32)),
    )
    for row, packed in enumerate(rows):
        start = slot = 0
        for number, instance in enumerate(packed):
            stop, last = start + len(instance["ids"]), slot + len(instance["masked"])
            tokens.ids[row, start:stop] = instance["ids"]
            tokens.segments[row, start:stop] = instance["segments"]
            tokens.positions[row, start:stop] = np.arange(stop - start)
            tokens.instances[row, start:stop] = number + 1
            batch.mask_positions[row, slot:last] = start + instance["masked"]
            batch.mask_labels[row, slot:last] = instance["labels"]
            batch.mask_weights[row, slot:last] = 1
            batch.cls_positions[row, number] = start
            batch.next_labels[row, number] = instance["next_label"]
            batch.next_weights[row, number] = 1
            start, slot = stop, last
    return jax.tree.map(jnp.asarray, batch)


def plain(**options):
    return make_batch([[instance] for instance in instances()], **options)


def packed(**options):
    first, second, third, fourth = instances()
    return make_batch([[first, second, fourth], [third]], **options)


def apply(batch, config=CONFIG):
    model = jax.jit(functools.partial(PretrainModel(config, None).apply, deterministic=True))
    mlm, following = model(
        {"params": pretrain_params()},
        batch.tokens,
        batch.mask_positions,
        batch.cls_positions,
    )
    return np.asarray(mlm), np.asarray(following)


@functools.cache
def numpy_logits(form):
    """(MLM logits, next logits) of every instance."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), pretrain_params())
    found = []
    for instance in instances():
        x = numpy_bert.encode(params["encoder"], instance["ids"], instance["segments"], form)
        mlm = numpy_bert.mlm_logits(params, x, instance["masked"], form)
        found.append((mlm, numpy_bert.class_logits(params, x, "next")))
    return found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("filling", [0, 7])
def test_padded_rows_agree_with_numpy(form, filling):
    mlm, following = apply(plain(filling=filling), dataclasses.replace(CONFIG, gelu=form))
    assert mlm.dtype == following.dtype == np.float32
    for row, (expected_mlm, expected_next) in enumerate(numpy_logits(form)):
        np.testing.assert_allclose(mlm[row, : len(expected_mlm)], expected_mlm, **TOLERANCE)
        np.testing.assert_allclose(following[row, 0], expected_next, **TOLERANCE)


@pytest.mark.parametrize("form", FORMS)
def test_packed_rows_agree_with_numpy(form):
    mlm, following = apply(packed(), dataclasses.replace(CONFIG, gelu=form))
    expected = numpy_logits(form)
    first_row = [expected[i][0] for i in (0, 1, 3)]
    np.testing.assert_allclose(mlm[0, :6], np.concatenate(first_row), **TOLERANCE)
    np.testing.assert_allclose(mlm[1, :3], expected[2][0], **TOLERANCE)
    found = [following[0, 0], following[0, 1], following[1, 0], following[0, 2]]
    np.testing.assert_allclose(found, [logits for _, logits in expected], **TOLERANCE)


def test_the_two_forms_of_gelu_are_told_apart_by_the_tolerance():
    difference = np.abs(numpy_logits("erf")[0][0] - numpy_logits("tanh")[0][0]).max()
    assert difference > 5e-5


@pytest.mark.parametrize("form", FORMS)
def test_the_classifier_agrees_with_numpy(form):
    batch = plain()
    model = ClassifyModel(dataclasses.replace(CONFIG, gelu=form), 5, None)
    params = moved(model.init(jax.random.key(3), batch.tokens, deterministic=True)["params"])
    logits = model.apply({"params": params}, batch.tokens, deterministic=True)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    for row, instance in enumerate(instances()):
        x = numpy_bert.encode(params["encoder"], instance["ids"], instance["segments"], form)
        expected = numpy_bert.class_logits(params, x, "classifier")
        np.testing.assert_allclose(logits[row], expected, **TOLERANCE)


def loss_and_gradient(batch):
    objective = make_objective(PretrainModel(CONFIG, None))

    def loss(params):
        losses, _ = objective.losses(params, batch, None)
        return sum(mean.total / mean.weight for mean in losses.values())

    return jax.jit(jax.value_and_grad(loss))(pretrain_params())


def test_packed_and_plain_rows_have_the_same_loss_and_gradient():
    loss, gradient = loss_and_gradient(packed())
    plain_loss, plain_gradient = loss_and_gradient(plain())
    np.testing.assert_allclose(loss, plain_loss, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **TOLERANCE), gradient, plain_gradient
    )
    assert all(np.abs(leaf).max() > 1e-3 for leaf in biases_and_kernels(gradient))


def biases_and_kernels(gradient):
    """Every leaf but the biases of the keys: softmax does not see them."""
    return [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient)
        if "key/bias" not in jax.tree_util.keystr(path, simple=True, separator="/")
    ]


def test_the_gradient_is_the_slope_of_the_numpy_loss():
    loss, gradient = loss_and_gradient(packed())
    rng = np.random.default_rng(4)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), pretrain_params())
    direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), params)

    def numpy_loss(step):
        at = jax.tree.map(lambda leaf, along: leaf + step * along, params, direction)
        mlm, following = [], []
        for instance in instances():
            x = numpy_bert.encode(at["encoder"], instance["ids"], instance["segments"], "erf")
            for logits, label in zip(
                numpy_bert.mlm_logits(at, x, instance["masked"], "erf"),
                instance["labels"],
                strict=True,
            ):
                mlm.append(-np.log(numpy_bert.softmax(logits)[label]))
            logits = numpy_bert.class_logits(at, x, "next")
            following.append(-np.log(numpy_bert.softmax(logits)[instance["next_label"]]))
        return np.mean(mlm) + np.mean(following)

    assert float(loss) == pytest.approx(numpy_loss(0), rel=1e-5)
    slope = (numpy_loss(1e-5) - numpy_loss(-1e-5)) / 2e-5
    products = jax.tree.map(lambda a, b: float((a * b).sum()), gradient, direction)
    assert sum(jax.tree.leaves(products)) == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize(
    ("form", "at_1", "at_minus_3"),
    # Hugging Face's gelu and the original release's (modeling.py), six decimals.
    [("erf", 0.841345, -0.004050), ("tanh", 0.841192, -0.003637)],
)
def test_gelu_values(form, at_1, at_minus_3):
    gelu = activation(dataclasses.replace(CONFIG, gelu=form))
    np.testing.assert_allclose(gelu(jnp.asarray([1.0, -3.0])), [at_1, at_minus_3], atol=6e-7)
    np.testing.assert_allclose(
        numpy_bert.gelu(np.array([1.0, -3.0]), form), [at_1, at_minus_3], atol=6e-7
    )
