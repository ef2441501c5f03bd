"""Embeddings and the stack of blocks."""

from flax import linen as nn
from jaxtyping import Array, Float

from bert_jax.arrays import Tokens
from bert_jax.config import ModelConfig
from bert_jax.model.attention import same_instance
from bert_jax.model.block import Block
from bert_jax.model.embeddings import Embeddings


class Encoder(nn.Module):
    """Tokens to one vector a token; also hands out the token table for the MLM decoder."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self, tokens: Tokens, *, deterministic: bool
    ) -> tuple[Float[Array, "B T D"], Float[Array, "V D"]]:
        x, token_table = Embeddings(self.config, name="embeddings")(
            tokens, deterministic=deterministic
        )
        is_visible = same_instance(tokens.instances)
        for layer in range(self.config.layers):
            x = Block(self.config, name=f"layer_{layer}")(
                x, is_visible, deterministic=deterministic
            )
        return x, token_table
