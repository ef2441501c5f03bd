"""Examples that share rows give the outputs, losses and gradients of an example a row."""

import jax
import numpy as np
import pytest
import small

from bert_jax.config import MeshConfig
from bert_jax.data.encoding import pack_tokens
from bert_jax.tasks import all_tasks
from bert_jax.tasks.batches import even_batches
from bert_jax.tasks.forward import Forward
from bert_jax.tasks.task import Text
from bert_jax.tasks.tuning import make_objective
from bert_jax.training.sharding import batch_placer, make_mesh, one_device_mesh, row_shards

PAIRS = ("span", "choice")
LENGTH = 24
# Of 3 to 17 tokens, and seven of them: the eighth place of the batch holds nothing.
TEXTS = ("a", "好 b c", "d e f g h i j a b c d e", "f", "g 差 a a", "b", "h i j a b c")


def task_of(name):
    """And rows of it."""
    tokenizer = small.tokenizer()
    labels = ("value",) if name == "regress" else ("0", "1")
    task = all_tasks.named(name)(labels, tokenizer, LENGTH, 0)
    asked = [
        Text(text, "a b" if name in PAIRS else "", "here", ("a", "b c", "d")[: 2 + n % 2])
        for n, text in enumerate(TEXTS)
    ]
    return task, [task.row_of(text) for text in asked]


def make(name, mesh):
    task, rows = task_of(name)
    batch = task.batch(task.encode(rows).examples, 8, LENGTH)
    if name in ("classify", "choice"):
        batch = batch._replace(labels=np.arange(8, dtype=np.int32) % 2)
    return Forward(task, small.model_config(vocab_size=task.tokenizer.vocab_size), mesh), batch


def results(forward, batch, mesh):
    params = forward.init_params(jax.random.key(0))
    objective = make_objective(forward)
    batch = batch_placer(mesh)(batch)

    @jax.jit
    def of(params, batch):
        outputs = forward.model.apply({"params": params}, batch.tokens, deterministic=True)

        def loss(params):
            losses, extra = objective.losses(params, batch, None)
            return sum(mean.total for mean in losses.values()), extra

        (total, extra), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        return outputs, total, extra, gradient

    return jax.tree.map(np.array, of(params, batch))


@pytest.mark.parametrize(
    ("name", "devices"), [*((name, 1) for name in all_tasks.TASKS), ("classify", 4), ("tag", 4)]
)
def test_packed_examples_compute_what_padded_ones_do(name, devices):
    mesh = make_mesh(MeshConfig(-1, 1, 1), jax.devices()[:devices])
    forward, batch = make(name, mesh)
    tokens = pack_tokens(batch.tokens, rows=len(batch.tokens.ids) - row_shards(mesh), pad=0)
    alone = results(forward, batch, mesh)
    packed = results(forward, batch._replace(tokens=tokens), mesh)
    assert alone[1] != 0
    is_token = tokens.is_token if alone[0].ndim == 3 else tokens.is_token[:, 0]
    assert (packed[0][~is_token] == 0).all() or alone[0].ndim == 2
    for outputs in (alone[0], packed[0]):
        outputs[~is_token] = 0
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6), alone, packed)


@pytest.mark.parametrize(
    ("name", "devices"), [*((name, 1) for name in all_tasks.TASKS), ("choice", 4), ("span", 4)]
)
def test_many_rows_are_answered_as_few_are(name, devices, monkeypatch):
    mesh = make_mesh(MeshConfig(-1, 1, 1), jax.devices()[:devices])
    task, rows = task_of(name)
    config = small.model_config(vocab_size=task.tokenizer.vocab_size)
    forward = Forward(task, config, mesh)
    params = forward.init_params(jax.random.key(0))
    examples = task.encode(rows).examples
    monkeypatch.setattr("bert_jax.tasks.forward.EVAL_BATCH", 4)
    seen = []

    def watched(*of, **options):
        for indices, batch in even_batches(*of, **options):
            seen.append(batch.tokens.rows.ids.shape)
            yield indices, batch

    monkeypatch.setattr("bert_jax.tasks.forward.even_batches", watched)
    of_few = Forward(task, config, one_device_mesh()).answers(params, rows, examples, batch_size=4)
    of_many = forward.evaluate(params, rows, examples)
    shown = [[task.shown(*one) for one in zip(rows, of, strict=True)] for of in (of_many, of_few)]
    jax.tree.map(alike, *shown)
    assert len(seen) == 2
    assert len({*seen}) == 1
    assert seen[0][0] % devices == 0  # else every device would compute all rows


def alike(a, b):
    if isinstance(a, float):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6)
    else:
        assert a == b
