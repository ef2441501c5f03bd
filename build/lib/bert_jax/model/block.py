"""One encoder layer: attention and feed-forward, each followed by add and LayerNorm."""

from flax import linen as nn
from jaxtyping import Array, Bool, Float

from bert_jax.config import ModelConfig
from bert_jax.model.attention import SelfAttention
from bert_jax.model.layers import Dropout, activation, dense, layer_norm


class FeedForward(nn.Module):
    """Dense, GELU, dense."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        hidden = dense(self.config, self.config.feed_forward, name="intermediate")(x)
        return dense(self.config, self.config.width, name="output")(activation(self.config)(hidden))


class Block(nn.Module):
    """Post-LayerNorm: the norm comes after the residual sum, as published."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        is_visible: Bool[Array, "B T T"],
        *,
        deterministic: bool,
    ) -> Float[Array, "B T D"]:
        config = self.config
        update = SelfAttention(config, name="attention")(x, is_visible, deterministic=deterministic)
        update = Dropout(config.dropout, name="attention_dropout")(
            update, deterministic=deterministic
        )
        x = layer_norm(config, name="attention_norm")(x + update)
        update = FeedForward(config, name="feed_forward")(x)
        update = Dropout(config.dropout, name="feed_forward_dropout")(
            update, deterministic=deterministic
        )
        return layer_norm(config, name="feed_forward_norm")(x + update)
