"""Multi-head self-attention that stays inside an instance (arXiv:1706.03762, section 3.2)."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from bert_jax.config import ModelConfig
from bert_jax.model.attend import attend
from bert_jax.model.layers import Dense, Dropout

# From a vector of every token those that are asked for.
Read = Callable[[Float[Array, "R T D"]], Float[Array, "B N D"]]


class SelfAttention(nn.Module):
    """Query, key and value, mixed by one of the ways in `bert_jax.model.attend`, and a product;
    its bias apart."""

    config: ModelConfig
    mesh: Mesh | None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "R T D"],
        instances: Int[Array, "R T"],
        *,
        deterministic: bool,
        read: Read | None = None,
    ) -> tuple[Float[Array, "B N D"], Float[Array, "D"]]:
        """Of the tokens that `read` says, all unless it is given."""
        config = self.config
        width, of_heads = (config.width,), (config.heads, config.width // config.heads)
        products, biases = zip(
            *(
                Dense(config, width, of_heads, mesh=self.mesh, name=name)(x)
                for name in ("query", "key", "value")
            ),
            strict=True,
        )
        # Parameters are made with a few tokens, which not every way takes.
        way = "plain" if self.is_initializing() else config.attention
        mixed = attend(
            dataclasses.replace(config, attention=way),
            self.mesh,
            *products,
            jnp.stack(biases),
            instances,
            Dropout(config.attention_dropout, self.mesh, name="dropout"),
            deterministic=deterministic,
        )
        output = Dense(config, of_heads, width, mesh=self.mesh, name="output")
        return output(read(mixed) if read else mixed)
