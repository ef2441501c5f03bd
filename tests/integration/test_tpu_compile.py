"""The pretraining step through the real TPU compiler, which needs no TPU: kernels included."""

import dataclasses
import functools
import importlib.util
import re

import jax
import numpy as np
import pytest
from small import model_config, optimizer_config

from bert_jax.arrays import PretrainBatch, Tokens
from bert_jax.config import MeshConfig
from bert_jax.model.bert import PretrainModel
from bert_jax.model.kernel_work import KERNELS, OWN
from bert_jax.tasks.pretrain import init_params, make_objective
from bert_jax.tasks.slice_plan import Slice
from bert_jax.training.optimizer import make_optimizer
from bert_jax.training.schedules import make_schedule
from bert_jax.training.sharding import batch_sharding, make_mesh
from bert_jax.training.state import state_shapes
from bert_jax.training.step import by_step, make_train_step

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None,
        reason="libtpu is an extra: pip install bert_jax[tpu-plan]",
    ),
]
MODEL = model_config(
    vocab_size=1000, width=256, heads=4, feed_forward=512, layers=1, compute_dtype="bfloat16"
)
ROWS, SLOTS = 16, 16


def compiled(topology, mesh, length=128, **changes):
    """The optimised program of a step on eight chips of a kind that is not here."""
    model = dataclasses.replace(MODEL, **changes)
    mesh = make_mesh(mesh, Slice.named(topology).devices)
    optimizer = make_optimizer(optimizer_config())
    init = functools.partial(init_params, model)
    state = state_shapes(init, optimizer, prng="threefry2x32", mesh=mesh)

    def rows(*shape, dtype=np.int32):
        return jax.ShapeDtypeStruct((ROWS, *shape), dtype, sharding=batch_sharding(mesh))

    batch = PretrainBatch(
        Tokens(*[rows(length)] * 4),
        *(rows(SLOTS), rows(SLOTS), rows(SLOTS, dtype=np.float32)),
        *(rows(1), rows(1), rows(1, dtype=np.float32)),
    )
    step = make_train_step(
        make_objective(PretrainModel(model, mesh)),
        optimizer,
        by_step(make_schedule(optimizer_config(), total_steps=100)),
        mesh=mesh,
    )
    return step.lower(state, batch).compile().as_text()


def kernels(program):
    """Names and operand shapes of the Pallas calls."""
    calls = re.findall(r"%([a-z_]+)[.\d]* = [^\n]*custom_call_target=\"tpu_custom_call\"", program)
    return sorted(set(calls))


@pytest.mark.parametrize(
    ("topology", "length"),  # of one core a chip, of two, and of wider matrix units
    [("v5e:2x4", 128), ("v5e:2x4", 512), ("v5p:2x2x2", 512), ("v6e:2x4", 512)],
)
def test_a_step_for_a_tpu_runs_every_kernel_there_is(topology, length):
    program = compiled(topology, MeshConfig(data=2, fsdp=2, tensor=2), length)
    assert kernels(program) == sorted(OWN)


def test_splash_attention_compiles():
    changes = dict(attention="splash", attention_dropout=0.0)
    program = compiled("v5e:2x4", MeshConfig(data=8, fsdp=1, tensor=1), **changes)
    assert any("splash" in name for name in kernels(program))
    assert "attention_forward" not in kernels(program)
    assert set(kernels(program)) <= set(KERNELS)  # a plan has their work
