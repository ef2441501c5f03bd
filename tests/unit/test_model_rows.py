"""Activations on a mesh, where no kernel holds their rows in place."""

import re

import jax
import jax.numpy as jnp
import pytest

from bert_jax.config import MeshConfig, PretrainConfig
from bert_jax.fields import build
from bert_jax.model.rows import keep_rows
from bert_jax.tasks.planned_step import Rows, lower_step
from bert_jax.tasks.slice_plan import Work
from bert_jax.training.sharding import make_mesh
from configs import pretrain_base


@pytest.mark.parametrize("sizes", [(1, 8, 1), (2, 2, 2)])
def test_no_device_has_the_activations_of_all_rows(sizes):
    """In a train step with parameters in parts: all rows are 136, which no other size is."""
    values = pretrain_base.get_config("tiny")
    values.model.update(layers=1, width=256, heads=4, feed_forward=1024, vocab_size=1000)
    values.model.positions = 64
    values.update(batch_size=136, mesh=dict(zip(("data", "fsdp", "tensor"), sizes, strict=True)))
    config = build(PretrainConfig, values)
    (step,) = Work(config, (Rows(64, 1),)).steps()
    program = lower_step(step, make_mesh(config.mesh, jax.devices()[:8])).compile().as_text()
    assert not re.findall(r"\w+\[136,64,[\d,]+\]", program)


def test_rows_that_do_not_divide_stay_as_they_are():
    mesh = make_mesh(MeshConfig(2, 2, 1), jax.devices()[:4])
    x = jnp.ones((6, 3))
    assert keep_rows(None, x) is x
    assert keep_rows(mesh, x) is x
    assert len(keep_rows(mesh, jnp.ones((8, 3))).sharding.device_set) == 4
