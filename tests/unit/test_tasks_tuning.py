"""What is compiled for a fine-tuning."""

import dataclasses

import jax
import pytest
import small

from bert_jax.data.shapes import common_shape
from bert_jax.fields import build
from bert_jax.finetune_config import FinetuneConfig
from bert_jax.tasks import tuning
from bert_jax.tasks.batches import random_batches, text_lengths
from bert_jax.tasks.classify import Classify
from bert_jax.tasks.splits import TRAIN, VALIDATION
from bert_jax.text.labelled import LabelledText
from bert_jax.training.sharding import make_mesh
from configs import finetune_sentiment


def shapes_of(epochs):
    """That a run of so many epochs meets, of short texts with a long one here and there."""
    tokenizer = small.tokenizer()
    task = Classify(("0", "1"), tokenizer, 64, 0)
    rows = [
        LabelledText(" ".join("ab"[n % 2] * (60 if n % 40 == 0 else 5)), "", str(n % 2), "here")
        for n in range(160)
    ]
    examples = task.encode(rows).examples
    data = tuning.Data(
        task, {TRAIN: rows, VALIDATION: rows}, {TRAIN: examples, VALIDATION: examples}, []
    )
    values = finetune_sentiment.get_config("tiny").to_dict() | {"init_from": "runs/any"}
    config = build(FinetuneConfig, values | {"epochs": epochs, "batch_size": 8})
    model = small.model_config(vocab_size=tokenizer.vocab_size)
    config = dataclasses.replace(config, model=model)
    program = tuning.make_program(config, data, make_mesh(config.mesh, jax.devices()[:1]))
    batches = random_batches(examples, batch_size=8, seed=0, step=0)
    texts = [text_lengths(task, next(batches)) for _ in range(40)]
    own = {common_shape([lengths], max_length=task.max_length, multiple=1) for lengths in texts}
    return own, {program.shapes.of(lengths) for lengths in texts}


@pytest.mark.parametrize(("flops", "is_dear"), [(0.0, False), (1e18, True)])
def test_shapes_are_weighed_against_their_compilation(flops, is_dear, monkeypatch):
    monkeypatch.setattr(tuning, "compilation_flops", lambda layers, mesh: flops)
    own, met = shapes_of(epochs=2)
    assert len(own) > 1
    assert len(met) == (1 if is_dear else len(own))


def test_a_longer_run_has_more_shapes(monkeypatch):
    row = tuning.training_flops(small.model_config(vocab_size=30), length=64, predictions=0)
    monkeypatch.setattr(tuning, "compilation_flops", lambda layers, mesh: 100 * row)
    (_, few), (_, more) = shapes_of(epochs=1), shapes_of(epochs=1000)
    assert len(few) < len(more)
