"""Embeddings and the stack of blocks: unrolled or in a loop, all kept or computed again."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PyTree

from bert_jax.arrays import Tokens
from bert_jax.config import ModelConfig
from bert_jax.model.attention import Read
from bert_jax.model.block import Block
from bert_jax.model.embeddings import Embeddings

# Parameters and dropout key of a layer, its input, each token's instance -> its output.
Layer = Callable[[PyTree, Any, Float[Array, "R T D"], Int[Array, "R T"]], Float[Array, "B N D"]]


class Encoder(nn.Module):
    """Tokens to one vector a token; also hands out the token table for the MLM decoder.

    The last layer's part after its attention is computed only for what `read` takes from a vector
    of every token: the rest is in no other layer's input, so nothing that is read changes.
    """

    config: ModelConfig
    mesh: Mesh | None

    @nn.compact
    def __call__(
        self, tokens: Tokens, *, deterministic: bool, read: Read | None = None
    ) -> tuple[Float[Array, "B N D"], Float[Array, "V D"]]:
        config = self.config
        x, token_table = Embeddings(config, self.mesh, name="embeddings")(
            tokens, deterministic=deterministic
        )
        instances = tokens.instances
        names = [f"layer_{layer}" for layer in range(config.layers)]
        if self.is_initializing():
            for name in names:
                x = Block(config, self.mesh, name=name)(x, instances, deterministic=deterministic)
            return read(x) if read else x, token_table
        # From here on a layer is a pure function of its parameters and its key, in a loop or
        # not. nn.scan would keep the parameters of all layers in one array, where checkpoints,
        # frozen paths and LAMB want one a layer; and of keys that Linen makes by path the
        # loop would have others.
        params = [self.get_variable("params", name) for name in names]
        keys = None if deterministic else jax.random.split(self.make_rng("dropout"), config.layers)
        layer = last = _layer(config, self.mesh)
        looped = config.layers if config.scan_layers else 0
        if read:  # a layer that does less than the others is no part of the loop
            last = _layer(config, self.mesh, read)
            looped = min(looped, config.layers - 1)
        if looped:
            of_loop = None if deterministic else keys[:looped]
            x = _scan(layer, params[:looped], of_loop, x, instances)
        for number in range(looped, config.layers):
            with jax.named_scope(names[number]):
                key = None if deterministic else keys[number]
                of_number = last if number == config.layers - 1 else layer
                x = of_number(params[number], key, x, instances)
        return x, token_table


def _layer(config: ModelConfig, mesh: Mesh | None, read: Read | None = None) -> Layer:
    """A block as a function, which keeps for the backward pass what `config.remat` says."""
    block = Block(config, mesh, parent=None)

    def layer(
        params: PyTree, key: Any, x: Float[Array, "R T D"], instances: Int[Array, "R T"]
    ) -> Float[Array, "B N D"]:
        rngs = None if key is None else {"dropout": key}
        return block.apply(
            {"params": params}, x, instances, deterministic=key is None, read=read, rngs=rngs
        )

    if config.remat == "none":
        return layer
    policy = {
        # Products with a batch dimension are those of the attention: cheap to compute, and
        # quadratic in the length to keep.
        "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
        "full": jax.checkpoint_policies.nothing_saveable,
    }[config.remat]
    # In a loop the compiler cannot find the forward pass's values and keep them after all.
    is_looped = config.scan_layers and not read
    return jax.checkpoint(layer, policy=policy, prevent_cse=not is_looped)


def _scan(
    layer: Layer,
    params: list[PyTree],
    keys: Any,
    x: Float[Array, "B T D"],
    instances: Int[Array, "B T"],
) -> Float[Array, "B T D"]:
    """One compiled layer that goes over the parameters of all, stacked for this call."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)

    def step(x: Float[Array, "B T D"], of_layer: Any) -> tuple[Float[Array, "B T D"], None]:
        layer_params, key = of_layer
        return layer(layer_params, key, x, instances), None

    x, _ = jax.lax.scan(step, x, (stacked, keys))
    return x
