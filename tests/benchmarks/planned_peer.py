"""Hugging Face's Flax BERT for a slice of TPUs, by the compiler that our plans ask."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.stages import Lowered
from jaxtyping import PyTree

from bert_jax.config import PretrainConfig
from bert_jax.tasks.planned_step import FEW, MORE
from bert_jax.tasks.slice_plan import Slice
from bert_jax.tasks.step_cost import EXCHANGES, step_cost
from bert_jax.training.aot import compile_step
from tests.benchmarks.systems import Instances, flax_step, sizes

NAME = "Hugging Face's Flax BERT"


def lower(config: PretrainConfig, where: Slice, layers: int) -> Lowered:
    """Its step of so many layers in bfloat16, every chip with all parameters and its own rows."""
    import transformers

    with jax.numpy_rank_promotion("allow"):  # which theirs is written for
        return _lower(transformers, config, where, layers)


def _lower(transformers: Any, config: PretrainConfig, where: Slice, layers: int) -> Lowered:
    bert = transformers.BertConfig(**sizes(config.model) | {"num_hidden_layers": layers})
    model, optimizer, update = flax_step(bert, dtype=jnp.bfloat16, has_parameters=False)
    mesh = Mesh(np.array(where.devices), "data")

    def placed(tree: PyTree, *axes: str) -> PyTree:
        sharding = NamedSharding(mesh, PartitionSpec(*axes))
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
        )

    key = jax.eval_shape(lambda: jax.random.key(0, impl="rbg"))
    params = jax.eval_shape(lambda: model.init_weights(jax.random.key(0), (1, 8)))
    row = jax.ShapeDtypeStruct((config.batch_size, config.model.positions), jnp.int32)
    inputs = Instances(row, row, row, row, jax.ShapeDtypeStruct(row.shape[:1], jnp.int32))
    state = (params, jax.eval_shape(optimizer.init, params), key)
    return update.lower(placed(state), placed(inputs._asdict(), "data"))


def plan(config: PretrainConfig, where: Slice) -> dict[str, Any]:
    """Milliseconds of a step and of its exchanges, and bytes of a chip, reckoned from steps of
    FEW and MORE layers as a plan's `--fast`."""
    found = []
    for layers in (FEW, MORE):
        program = compile_step(lower(config, where, layers))
        cost = step_cost(program.text, where.tpu)
        size = program.arguments + program.temporaries + program.code
        found.append((1e3 * cost.seconds, 1e3 * cost.by_formula.get(EXCHANGES, 0.0), size))
    few, more = np.array(found)
    step, exchanges, size = few + (config.model.layers - FEW) / (MORE - FEW) * (more - few)
    return {
        "step_ms": float(step),
        "by_formula": {EXCHANGES: float(exchanges)},
        "bytes_per_chip": float(size),
        "fits": bool(size <= where.tpu.hbm_bytes),
    }
