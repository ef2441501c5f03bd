"""Training FLOPs of published sizes worked out, and against XLA's own count."""

import functools

import jax
import numpy as np
import pytest
from small import model_config, tokenizer

from bert_jax.arrays import PackedTokens, Tokens
from bert_jax.config import PretrainConfig
from bert_jax.data.shapes import Shape
from bert_jax.fields import build
from bert_jax.model.bert import PretrainModel
from bert_jax.model.flops import FORWARD_PASSES, training_flops
from bert_jax.tasks import all_tasks, slice_plan
from bert_jax.tasks.forward import Forward
from bert_jax.tasks.planned_step import Rows, lower_step
from bert_jax.tasks.pretrain import init_params
from bert_jax.tasks.tuning import step_flops
from bert_jax.training.sharding import make_mesh, one_device_mesh
from configs import pretrain_base

BASE = dict(layers=12, width=768, heads=12, feed_forward=3072)
LARGE = dict(layers=24, width=1024, heads=16, feed_forward=4096)


@pytest.mark.parametrize(
    ("sizes", "length", "predictions", "giga"),
    [
        # Of the sizes in arXiv:1810.04805: 6 * (layers * (T * (4 D D + 2 D F) + 2 T T D) +
        # P * (D D + D V) + D D + 2 D), with P of the original's 128 phase and MLPerf's 512.
        pytest.param(BASE, 128, 20, "69.9", id="base-128"),
        pytest.param(BASE, 512, 76, "300.9", id="base-512"),
        pytest.param(LARGE, 128, 20, "240.6", id="large-128"),
        pytest.param(LARGE, 512, 76, "1019.8", id="large-512"),
    ],
)
def test_known_models(sizes, length, predictions, giga):
    config = model_config(vocab_size=30_522, positions=512, **sizes)
    flops = training_flops(config, length=length, predictions=predictions)
    assert f"{flops / 1e9:.1f}" == giga


def counts(predictions, instances):
    """Operations of a forward pass of two rows: what XLA counts, and what we do."""
    rows, length = 2, 64
    config = model_config(
        layers=2, width=512, heads=8, feed_forward=2048, vocab_size=2000, positions=length
    )
    whole = jax.ShapeDtypeStruct((rows, length), np.int32)
    arguments = (
        {"params": jax.eval_shape(functools.partial(init_params, config), jax.random.key(0))},
        Tokens(whole, whole, whole, whole),
        jax.ShapeDtypeStruct((rows, predictions), np.int32),
        jax.ShapeDtypeStruct((rows, instances), np.int32),
    )
    forward = jax.jit(functools.partial(PretrainModel(config, None).apply, deterministic=True))
    counted = forward.lower(*arguments).compile().cost_analysis()["flops"]
    row = training_flops(config, length=length, predictions=predictions, instances=instances)
    return counted, rows * row / FORWARD_PASSES


def test_xla_counts_the_same():
    # And 2.4 % besides for norms, GELU and softmax.
    counted, ours = counts(16, 1)
    assert ours < counted < 1.03 * ours


@pytest.mark.parametrize("more", [(32, 1), (16, 5)])
def test_xla_counts_the_same_for_more_predictions_and_more_instances(more):
    counted, ours = np.subtract(counts(*more), counts(16, 1))
    assert ours < counted < 1.03 * ours


@pytest.mark.parametrize(
    ("task", "texts", "least"),
    [("classify", 0, 0.5), ("classify", 96, 0.7), ("tag", 0, 0.99), ("tag", 96, 0.99)],
)
def test_xla_counts_the_same_for_what_a_task_reads(task, texts, least):
    """[CLS] alone of the last of two layers, or all of it; padded, and with texts that share
    rows. And a small head."""
    rows, length = 4, 64
    config = model_config(
        layers=2, width=512, heads=8, feed_forward=2048, vocab_size=2000, positions=length
    )
    made = all_tasks.named(task)(("0", "1"), tokenizer(), length, 0)
    forward = Forward(made, config, one_device_mesh())
    tokens = Tokens(*[jax.ShapeDtypeStruct((rows, length), np.int32)] * 4)
    if texts:
        tokens = PackedTokens(tokens, jax.ShapeDtypeStruct((texts, length), np.int32))
    apply = jax.jit(functools.partial(forward.model.apply, deterministic=True))
    compiled = apply.lower({"params": forward.param_shapes()}, tokens).compile()
    ours = step_flops(forward, Shape(rows, length), texts=tokens.texts) / FORWARD_PASSES
    # Not counted in ours: the pooler of texts beyond one a row.
    pooled = 2 * 512 * 512 * max(texts - rows, 0) if task == "classify" else 0
    assert 0.995 * ours < compiled.cost_analysis()["flops"] - pooled < 1.03 * ours
    whole = rows * training_flops(config, length=length, predictions=0) / FORWARD_PASSES
    assert least < ours / whole < least + 0.15


def test_xla_counts_the_same_for_a_whole_step():
    """Backward pass and optimizer too, in a plan's own shapes, on one CPU device."""
    values = pretrain_base.get_config("tiny")
    sizes = dict(layers=2, width=512, heads=8, feed_forward=2048, vocab_size=2000, positions=64)
    values.model.update(sizes, dropout=0.0, attention_dropout=0.0)
    values.update(batch_size=16)
    values.masking.max_predictions = 16
    config = build(PretrainConfig, values)
    (step,) = slice_plan.Work(config, (Rows(64, 1),)).steps()
    counted = lower_step(step, make_mesh(config.mesh, jax.devices()[:1])).compile().cost_analysis()
    # Norms, GELU, softmax and Adam on 8 M parameters.
    assert step.flops < counted["flops"] < 1.06 * step.flops
