"""What is read off the encoder: pooled [CLS], masked tokens, next sentence, classes."""

import functools

import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from bert_jax.arrays import PackedTokens, Tokens
from bert_jax.config import ModelConfig
from bert_jax.model.layers import (
    Dense,
    Dropout,
    LayerNorm,
    activation,
    add_bias,
    by_token,
    fresh_head_init,
    weight_init,
)


def gather_tokens(x: Float[Array, "B T D"], positions: Int[Array, "B N"]) -> Float[Array, "B N D"]:
    """The vectors at the given positions of each row."""
    return jnp.take_along_axis(x, positions[:, :, None], axis=1)


def of_examples(
    x: Float[Array, "R T C"], tokens: Tokens | PackedTokens, length: int | None = None
) -> Float[Array, "B N C"]:
    """What the rows hold for each token of an example, or for its first `length` ones.

    For padding it is 0 where examples share rows, and whatever the row has where not.
    """
    if isinstance(tokens, Tokens):
        return x[:, :length]
    flat = x.reshape(-1, x.shape[-1])
    places = tokens.places[:, :length]
    outside = len(flat)
    return flat.at[jnp.where(places < 0, outside, places)].get(mode="fill", fill_value=0)


class Pooler(nn.Module):
    """Dense and tanh on [CLS] vectors."""

    config: ModelConfig

    @nn.compact
    def __call__(self, cls: Float[Array, "B S D"]) -> Float[Array, "B S D"]:
        width = (self.config.width,)
        return nn.tanh(add_bias(*Dense(self.config, width, width, name="dense")(cls)))


class MlmHead(nn.Module):
    """Logits over the vocabulary: dense, GELU, LayerNorm, the tied table and a bias.

    Takes the masked positions only: a seventh of the vocabulary product at 15 %.
    """

    config: ModelConfig
    mesh: Mesh | None

    @nn.compact
    def __call__(
        self, x: Float[Array, "B P D"], token_table: Float[Array, "V D"]
    ) -> Float[Array, "B P V"]:
        config, mesh = self.config, self.mesh
        width = (config.width,)
        x = activation(config)(add_bias(*Dense(config, width, width, mesh=mesh, name="dense")(x)))
        x = LayerNorm(config, name="norm")(x)
        bias = self.param("bias", nn.initializers.zeros, (config.vocab_size,), jnp.float32)
        table = token_table.astype(x.dtype)
        # In float32: rounded logits tie, and the loss sees it.
        product = functools.partial(jnp.einsum, "...D,VD->...V", preferred_element_type=jnp.float32)
        logits = by_token(lambda x: product(x, table), x, mesh)
        return logits + bias[None, None]


class ClassHead(nn.Module):
    """Dropout and one dense layer in float32; two classes make the next-sentence head.

    `is_fresh` says that it is put on an encoder that others have trained.
    """

    config: ModelConfig
    classes: int
    dropout: float
    mesh: Mesh | None
    is_fresh: bool

    @nn.compact
    def __call__(
        self, pooled: Float[Array, "B S D"], *, deterministic: bool
    ) -> Float[Array, "B S C"]:
        pooled = Dropout(self.dropout, self.mesh, name="dropout")(
            pooled, deterministic=deterministic
        )
        config, classes = self.config, (self.classes,)
        init = fresh_head_init(config) if self.is_fresh else weight_init(config)
        dense = Dense(
            config,
            (config.width,),
            classes,
            dtype="float32",
            init=init,
            mesh=self.mesh,
            name="dense",
        )
        return add_bias(*dense(pooled))
