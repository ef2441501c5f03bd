"""One encoder layer: attention and feed-forward, each followed by add and LayerNorm."""

from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from bert_jax.config import ModelConfig
from bert_jax.model.attention import SelfAttention
from bert_jax.model.layers import AddNorm, Dense, Dropout, activation, add_bias


class FeedForward(nn.Module):
    """Dense, GELU, dense; the last bias apart."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> tuple[Float[Array, "B T D"], Float[Array, "D"]]:
        config = self.config
        width, feed_forward = (config.width,), (config.feed_forward,)
        hidden = add_bias(*Dense(config, width, feed_forward, name="intermediate")(x))
        return Dense(config, feed_forward, width, name="output")(activation(config)(hidden))


class Block(nn.Module):
    """Post-LayerNorm: the norm comes after the residual sum, as published."""

    config: ModelConfig
    mesh: Mesh | None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        instances: Int[Array, "B T"],
        *,
        deterministic: bool,
    ) -> Float[Array, "B T D"]:
        config = self.config
        mesh = self.mesh

        def dropout(name: str) -> Dropout | None:
            return None if deterministic else Dropout(config.dropout, mesh, name=name)

        update = SelfAttention(config, mesh, name="attention")(
            x, instances, deterministic=deterministic
        )
        x = AddNorm(config, mesh, name="attention_norm")(x, update, dropout("attention_dropout"))
        update = FeedForward(config, name="feed_forward")(x)
        return AddNorm(config, mesh, name="feed_forward_norm")(
            x, update, dropout("feed_forward_dropout")
        )
