"""What of a model a fine-tuning moves, and how far."""

import dataclasses
import re

import pytest

from bert_jax.fields import build
from bert_jax.finetune_config import FinetuneConfig
from bert_jax.tasks.layer_rates import moves
from configs import finetune_sentiment


def config_of(**changes):
    values = finetune_sentiment.get_config("tiny")
    values.init_from = "runs/base"
    return dataclasses.replace(build(FinetuneConfig, values), **changes)


# Of three layers with a decay of 0.5: the decay for each layer above.
WANTED = {
    "encoder/embeddings/token": 0.125,
    "encoder/layer_0/attention/query/kernel": 0.25,
    "encoder/layer_1/attention/query/kernel": 0.5,
    "encoder/layer_2/attention/query/kernel": 1.0,
    "pooler/dense/kernel": None,
    "classifier/dense/kernel": None,
}


@pytest.mark.parametrize("path", WANTED)
def test_the_rate_falls_from_layer_to_layer(path):
    rates = moves(config_of(layer_decay=0.5), 3).rates
    assert next((rate for regex, rate in rates if re.search(regex, path)), None) == WANTED[path]


def test_layer_1_is_not_layer_10():
    rates = dict(moves(config_of(layer_decay=0.5), 11).rates)
    (found,) = [rate for regex, rate in rates.items() if re.search(regex, "encoder/layer_10/a")]
    assert found == 1


def test_a_decay_of_1_is_none():
    assert moves(config_of(), 3) == ("", (), "", 0)


def test_the_encoder_is_held_for_the_steps_of_the_head():
    found = moves(config_of(head_steps=7), 3)
    assert found.held_updates == 7
    assert [path for path in WANTED if re.search(found.held, path)] == [*WANTED][:4]
