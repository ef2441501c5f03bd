"""Activations on a mesh, where no kernel holds their rows in place."""

import jax

from bert_jax.config import PretrainConfig
from bert_jax.fields import build
from bert_jax.tasks.planned_step import Rows, lower_step
from bert_jax.tasks.slice_plan import Work
from bert_jax.training.sharding import make_mesh
from configs import pretrain_base


def temporaries(**mesh):
    """Bytes of a device in a train step of 8 devices."""
    values = pretrain_base.get_config("tiny")
    values.model.update(layers=1, width=256, heads=4, feed_forward=1024, vocab_size=1000)
    values.model.positions = 64
    values.update(batch_size=128, mesh=dict(data=1, fsdp=1, tensor=1) | mesh)
    config = build(PretrainConfig, values)
    (step,) = Work(config, (Rows(64, 1),)).steps()
    compiled = lower_step(step, make_mesh(config.mesh, jax.devices()[:8])).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_a_device_keeps_its_own_rows_where_parameters_are_in_parts():
    """And whole parameters for as long as they are used, beside what it keeps of data alone."""
    assert temporaries(fsdp=8) < 1.5 * temporaries(data=8)
