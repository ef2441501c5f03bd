"""What several layers of the encoder say of a text, not the last alone."""

import dataclasses

from jax.sharding import Mesh
from jaxtyping import Array, Float, PyTree

from bert_jax.arrays import Tokens
from bert_jax.config import ModelConfig
from bert_jax.model.block import Block
from bert_jax.model.encoder import Encoder


def last_states(
    config: ModelConfig, mesh: Mesh, params: PyTree, tokens: Tokens, count: int
) -> list[Float[Array, "B T D"]]:
    """The outputs of the last `count` layers, the lowest of them first; fewer where there are."""
    count = min(count, config.layers)
    below = dataclasses.replace(config, layers=config.layers - count + 1)
    x, _ = Encoder(below, mesh).apply({"params": params}, tokens, deterministic=True)
    states = [x]
    for layer in range(below.layers, config.layers):
        x = Block(config, mesh).apply(
            {"params": params[f"layer_{layer}"]}, x, tokens.instances, deterministic=True
        )
        states.append(x)
    return states
