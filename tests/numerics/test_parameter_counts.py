"""The model at the start: how many parameters, which loss, which numbers it computes in."""

import dataclasses
import functools
import importlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import model_config

from bert_jax.arrays import PretrainBatch, Tokens
from bert_jax.config import PretrainConfig
from bert_jax.fields import build
from bert_jax.model.bert import PretrainModel
from bert_jax.model.kernels.bits import RESOLUTION, kept_by_place
from bert_jax.model.layers import Dropout
from bert_jax.tasks.pretrain import init_params, make_objective
from bert_jax.training.metrics import divide
from bert_jax.training.step import make_eval_step

ENGLISH, CHINESE = 30_522, 21_128


def config_of(layers, width, heads, vocab_size, **changes):
    return model_config(
        layers=layers,
        width=width,
        heads=heads,
        vocab_size=vocab_size,
        feed_forward=4 * width,
        **changes,
    )


def count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("name", "vocab_size", "bare", "whole"),
    # Of the released checkpoints: google-research/bert (the 24 small models, base and
    # large uncased, base Chinese) as Hugging Face's BertModel and BertForPreTraining.
    [
        ("tiny", ENGLISH, 4_385_920, 4_433_468),
        ("mini", ENGLISH, 11_170_560, 11_267_900),
        ("small", ENGLISH, 28_763_648, 29_058_876),
        ("medium", ENGLISH, 41_373_184, 41_668_412),
        ("base", ENGLISH, 109_482_240, 110_106_428),
        ("large", ENGLISH, 335_141_888, 336_226_108),
        ("base", CHINESE, 102_267_648, 102_882_442),
    ],
)
def test_parameter_counts(name, vocab_size, bare, whole):
    file = importlib.import_module(f"configs.pretrain_{name}")
    config = build(PretrainConfig, file.get_config()).model
    config = dataclasses.replace(config, vocab_size=vocab_size)
    params = jax.eval_shape(functools.partial(init_params, config), jax.random.key(0))
    assert count(params) == whole
    assert count(params["encoder"]) + count(params["pooler"]) == bare
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert config.width == 64 * config.heads  # of which no parameter tells
    if vocab_size == ENGLISH:
        assert f"{whole:,} parameters" in file.__doc__


def test_one_base_layer():
    config = config_of(1, 768, 12, ENGLISH)
    params = jax.eval_shape(functools.partial(init_params, config), jax.random.key(0))
    assert count(params["encoder"]["layer_0"]) == 7_087_872


def make_batch(vocab_size, rows=16, length=32, slots=8):
    rng = np.random.default_rng(0)
    ones = np.ones((rows, length), np.int32)
    places = rng.permuted(np.tile(np.arange(1, length), (rows, 1)), axis=1)[:, :slots]
    batch = PretrainBatch(
        tokens=Tokens(
            ids=rng.integers(vocab_size, size=(rows, length), dtype=np.int32),
            segments=ones * (np.arange(length) > 15),
            positions=ones * np.arange(length, dtype=np.int32),
            instances=ones,
        ),
        mask_positions=places.astype(np.int32),
        mask_labels=rng.integers(vocab_size, size=(rows, slots), dtype=np.int32),
        mask_weights=np.ones((rows, slots), np.float32),
        cls_positions=np.zeros((rows, 1), np.int32),
        next_labels=np.arange(rows, dtype=np.int32)[:, None] % 2,
        next_weights=np.ones((rows, 1), np.float32),
    )
    return jax.tree.map(jnp.asarray, batch)


def start(config):
    return jax.jit(functools.partial(init_params, config))(jax.random.key(0))


def losses_of(config, params):
    evaluate = make_eval_step(make_objective(PretrainModel(config, None)))
    return divide(evaluate(params, make_batch(config.vocab_size)))


@pytest.mark.parametrize(("vocab_size", "log"), [(ENGLISH, 10.3262), (CHINESE, 9.9584)])
def test_the_loss_at_the_start_is_that_of_a_uniform_guess(vocab_size, log):
    assert math.log(vocab_size) == pytest.approx(log, abs=5e-5)
    config = config_of(1, 64, 2, vocab_size)
    losses = losses_of(config, start(config))
    # Logits of a normalised vector of width 64 and weights of 0.02 spread by 0.02 * 8 *
    # 0.88 (the cut normal's own deviation) = 0.14. That adds half its square, 0.01, and
    # the mean over 128 labels has a standard error of 0.14 / sqrt(128) = 0.012.
    assert losses["mlm_loss"] == pytest.approx(log + 0.01, abs=4 * 0.012)
    # 16 pairs, logits apart by some 0.02 of a tanh.
    assert losses["next_loss"] == pytest.approx(math.log(2), abs=0.02)


def test_bfloat16_computes_close_to_float32_on_float32_parameters():
    config = config_of(1, 64, 2, 1000, init_stddev=0.1)
    half = dataclasses.replace(config, compute_dtype="bfloat16")
    params = start(half)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    ours, exact = losses_of(half, params), losses_of(config, params)
    for name in ("mlm_loss", "next_loss"):
        assert ours[name] != exact[name]  # it did compute in another type
        assert ours[name] == pytest.approx(exact[name], rel=0.01)

    batch = make_batch(1000)
    run = functools.partial(
        PretrainModel(half, None).apply, deterministic=True, capture_intermediates=True
    )
    arguments = ({"params": params}, batch.tokens, batch.mask_positions, batch.cls_positions)
    encoded = jax.eval_shape(run, *arguments)[1]["intermediates"]
    x, token_table = encoded["encoder"]["__call__"][0]
    assert (x.dtype, token_table.dtype) == (jnp.bfloat16, jnp.float32)
    logits = encoded["mlm"]["__call__"][0]
    assert logits.dtype == jnp.float32


def drop(rate, x, **options):
    rngs = {"dropout": jax.random.key(5)}
    return Dropout(rate, None).apply({}, x, deterministic=False, rngs=rngs, **options)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_meets_its_rate_and_keeps_the_mean(rate):
    x = jnp.full((1000, 1000), 3.0)
    out = np.asarray(drop(rate, x))
    error = math.sqrt(rate * (1 - rate) / x.size)
    assert abs((out == 0).mean() - rate) < 4.5 * error
    np.testing.assert_allclose(out[out != 0], 3 / (1 - rate), rtol=1e-4)
    # A kept element is 3 / (1 - rate), so the mean strays that many times the share.
    assert abs(out.mean(dtype=np.float64) - 3) < 4.5 * error * 3 / (1 - rate)
    # Rows and columns are drawn for one by one: none shares its fate.
    for axis in (0, 1):
        spread = (out == 0).mean(axis).std()
        assert spread == pytest.approx(math.sqrt(rate * (1 - rate) / 1000), rel=0.15)


def test_dropout_is_drawn_apart_for_each_row_place_and_key():
    drawn = [
        np.asarray(kept_by_place(jax.random.key(seed), (64, 16, 512), RESOLUTION // 2))
        for seed in (1, 2)
    ]
    first, second = (2.0 * kept.reshape(64, -1) - 1 for kept in drawn)
    bound = 4.5 / math.sqrt(first.size)
    assert abs((first * second).mean()) < bound
    for axis, shift in ((0, 1), (1, 1), (1, 512)):  # rows, neighbours, the same place of a head
        assert abs((first * np.roll(first, shift, axis)).mean()) < bound
    # No row is another one moved along.
    spectra = np.fft.fft(first)
    moved = np.fft.ifft(spectra[:-1] * spectra[1:].conj()).real / first.shape[1]
    assert abs(moved).max() < 6 / math.sqrt(first.shape[1])


def test_dropout_of_all_or_nothing():
    x = jnp.arange(1.0, 7.0)
    assert (drop(0.0, x) == x).all()
    assert (drop(1.0, x) == 0).all()


def test_dropout_in_bfloat16_stays_in_it():
    assert drop(0.1, jnp.ones(8, jnp.bfloat16)).dtype == jnp.bfloat16


def test_dropout_changes_with_the_key_and_is_off_when_deterministic():
    config = config_of(1, 32, 2, 100, init_stddev=0.1)
    params = start(config)
    batch = make_batch(100)

    @functools.partial(jax.jit, static_argnums=(0, 2))
    def mlm(config, key, deterministic):
        return PretrainModel(config, None).apply(
            {"params": params},
            batch.tokens,
            batch.mask_positions,
            batch.cls_positions,
            deterministic=deterministic,
            rngs={"dropout": key},
        )[0]

    keys = [jax.random.key(seed) for seed in (1, 2)]
    first, second = (mlm(config, key, False) for key in keys)
    assert (first != second).any()
    assert (first == mlm(config, keys[0], False)).all()
    quiet, still = (mlm(config, key, True) for key in keys)
    assert (quiet == still).all()
    assert (quiet != first).any()
    bare = dataclasses.replace(config, dropout=0.0, attention_dropout=0.0)
    logits = mlm(bare, keys[0], False)
    np.testing.assert_allclose(quiet, logits, rtol=1e-5, atol=1e-6)
