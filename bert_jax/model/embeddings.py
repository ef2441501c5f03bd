"""Token + position + segment embeddings, normalised (arXiv:1810.04805, figure 2)."""

import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, Float

from bert_jax.arrays import Tokens
from bert_jax.config import ModelConfig
from bert_jax.model.layers import AddNorm, Dropout, weight_init


class Embeddings(nn.Module):
    """Sums the three tables, then LayerNorm and dropout.

    Also returns the token table: the MLM decoder is tied to it.
    """

    config: ModelConfig
    mesh: Mesh | None

    @nn.compact
    def __call__(
        self, tokens: Tokens, *, deterministic: bool
    ) -> tuple[Float[Array, "B T D"], Float[Array, "V D"]]:
        config = self.config

        def table(name: str, rows: int) -> Float[Array, "rows D"]:
            return self.param(name, weight_init(config), (rows, config.width), jnp.float32)

        token_table = table("token", config.vocab_size)
        x = jnp.take(token_table, tokens.ids, axis=0)
        place = jnp.take(table("position", config.positions), tokens.positions, axis=0)
        place += jnp.take(table("segment", config.segment_types), tokens.segments, axis=0)
        x, place = (part.astype(config.compute_dtype) for part in (x, place))
        x = AddNorm(config, self.mesh, name="norm")(x, (place, jnp.zeros(config.width)), None)
        x = Dropout(config.dropout, self.mesh, name="dropout")(x, deterministic=deterministic)
        return x, token_table
