"""One encoder layer: attention and feed-forward, each followed by add and LayerNorm."""

from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from bert_jax.config import ModelConfig
from bert_jax.model.attention import Read, SelfAttention
from bert_jax.model.layers import AddNorm, Dense, Dropout, activation, add_bias


class FeedForward(nn.Module):
    """Dense, GELU, dense; the last bias apart."""

    config: ModelConfig
    mesh: Mesh | None

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> tuple[Float[Array, "B T D"], Float[Array, "D"]]:
        config, mesh = self.config, self.mesh
        width, feed_forward = (config.width,), (config.feed_forward,)
        intermediate = Dense(config, width, feed_forward, mesh=mesh, name="intermediate")
        hidden = activation(config)(add_bias(*intermediate(x)))
        return Dense(config, feed_forward, width, mesh=mesh, name="output")(hidden)


class Block(nn.Module):
    """Post-LayerNorm: the norm comes after the residual sum, as published."""

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
    ) -> Float[Array, "B N D"]:
        """The tokens that `read` says, all unless it is given; those attend to all."""
        config = self.config
        mesh = self.mesh

        def dropout(name: str) -> Dropout | None:
            return None if deterministic else Dropout(config.dropout, mesh, name=name)

        update = SelfAttention(config, mesh, name="attention")(
            x, instances, deterministic=deterministic, read=read
        )
        x = read(x) if read else x
        x = AddNorm(config, mesh, name="attention_norm")(x, update, dropout("attention_dropout"))
        update = FeedForward(config, mesh, name="feed_forward")(x)
        return AddNorm(config, mesh, name="feed_forward_norm")(
            x, update, dropout("feed_forward_dropout")
        )
