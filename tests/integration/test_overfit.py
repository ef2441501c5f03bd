"""A model that cannot learn one batch by heart has a fault somewhere."""

import dataclasses
import itertools

import jax
import pytest
from integration import corpus
from small import optimizer_config

from bert_jax.config import ModelConfig, PretrainConfig
from bert_jax.fields import build
from bert_jax.model.bert import PretrainModel
from bert_jax.tasks import pretrain
from bert_jax.tasks.classify import Classify
from bert_jax.tasks.forward import Forward
from bert_jax.tasks.multilabel import Multilabel
from bert_jax.tasks.phases import open_phases
from bert_jax.tasks.regress import Regress
from bert_jax.tasks.tuning import make_objective
from bert_jax.text import tokenizer as tokenizers
from bert_jax.text.labelled import LabelledText
from bert_jax.training.metrics import divide
from bert_jax.training.optimizer import make_optimizer
from bert_jax.training.schedules import make_schedule
from bert_jax.training.sharding import batch_placer, make_mesh
from bert_jax.training.state import init_state
from bert_jax.training.step import by_step, make_train_step


def without_dropout(model: ModelConfig, vocab_size: int) -> ModelConfig:
    return dataclasses.replace(model, vocab_size=vocab_size, dropout=0.0, attention_dropout=0.0)


def learn_by_heart(init_params, objective, batch, mesh, steps, rate=5e-3):
    """The metrics of the first and of the last of `steps` updates on the one batch."""
    config = optimizer_config(learning_rate=rate, weight_decay=0.01)
    optimizer = make_optimizer(config)
    rate_of = by_step(make_schedule(config, total_steps=steps))
    state = init_state(init_params, optimizer, seed=0, prng="threefry2x32", mesh=mesh)
    step = make_train_step(objective, optimizer, rate_of, mesh=mesh)
    measured = []
    for placed in map(batch_placer(mesh), itertools.repeat(batch, steps)):
        state, means = step(state, placed)
        measured.append(means)
    return [divide(jax.device_get(means)) for means in (measured[0], measured[-1])]


def test_one_pretraining_batch(data):
    config = build(PretrainConfig, corpus.pretrain_config(data))
    config, (phase,) = open_phases(config, None)
    model = without_dropout(config.model, config.model.vocab_size)
    batch = phase.training_batches()[0]
    assert batch.mask_weights.sum() > 30
    assert 0 < (batch.next_labels * batch.next_weights).sum() < batch.next_weights.sum()
    mesh = make_mesh(config.mesh, jax.devices()[:1])
    first, last = learn_by_heart(
        lambda key: pretrain.init_params(model, key),
        pretrain.make_objective(PretrainModel(model, mesh)),
        batch,
        mesh,
        steps=160,
    )
    assert first["mlm_loss"] > 4
    assert first["next_loss"] > 0.5
    assert last["mlm_loss"] < 0.05
    assert last["next_loss"] < 0.01
    assert (last["mlm_accuracy"], last["next_accuracy"]) == (1, 1)


# Labels that no word tells: each text has to be learnt. Three at a time take longer. By 300 steps
# each of six draws of the head has a loss below 0.01, by 200 not.
STEPS = {Classify: 300, Multilabel: 800, Regress: 200}
LABELS = {
    Classify: lambda number: str(number % 3),
    Multilabel: lambda number: tuple(str(n) for n in range(3) if number >> n & 1),
    Regress: lambda number: float(number % 5),
}


@pytest.mark.parametrize("kind", LABELS)
def test_one_batch_of_a_task(kind, data):
    config = build(PretrainConfig, corpus.pretrain_config(data))
    tokenizer = tokenizers.load(data / "tokenizer")
    labels = ("0", "1", "2") if kind is not Regress else ("value",)
    task = kind(labels, tokenizer, max_length=32, overlap=0)
    rows = [
        LabelledText(text, "", LABELS[kind](number), "here")
        for number, (text, _) in enumerate(corpus.reviews(16))
    ]
    mesh = make_mesh(config.mesh, jax.devices()[:1])
    forward = Forward(task, without_dropout(config.model, tokenizer.vocab_size), mesh)
    first, last = learn_by_heart(
        forward.init_params,
        make_objective(forward),
        task.batch(task.encode(rows).examples, 16, 32),
        mesh,
        steps=STEPS[kind],
        rate=2e-3,
    )
    assert first["loss"] > 0.6
    assert last["loss"] < 0.02
    assert last.get("accuracy", 1) == 1
