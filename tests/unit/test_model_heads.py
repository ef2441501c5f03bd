"""What heads begin with."""

import jax
import jax.numpy as jnp
import numpy as np
from small import model_config

from bert_jax.arrays import Tokens
from bert_jax.model.bert import ClassifyModel, SpanModel, TagModel
from bert_jax.tasks.pretrain import init_params

# Enough numbers that their standard deviation is known to half a percent.
CONFIG = model_config(vocab_size=40, width=512, heads=8, feed_forward=8, layers=1)


def kernel(model, name):
    zeros = jnp.zeros((1, 8), jnp.int32)
    init = jax.jit(lambda key: model.init(key, Tokens(*[zeros] * 4), deterministic=True))
    return np.asarray(init(jax.random.key(0))["params"][name]["dense"]["kernel"])


def test_a_head_on_a_trained_encoder_begins_with_the_whole_deviation():
    for model, name in ((ClassifyModel, "classifier"), (TagModel, "tagger")):
        found = kernel(model(CONFIG, classes=40, mesh=None), name)
        np.testing.assert_allclose(found.std(), CONFIG.init_stddev, rtol=0.02)
    assert np.abs(kernel(SpanModel(CONFIG, None), "span")).max() > 2 * CONFIG.init_stddev


def test_what_is_pretrained_begins_within_two_deviations():
    params = jax.jit(lambda key: init_params(CONFIG, key))(jax.random.key(0))
    found = params["next"]["dense"]["kernel"]
    assert 1.5 * CONFIG.init_stddev < jnp.abs(found).max() <= 2 * CONFIG.init_stddev
