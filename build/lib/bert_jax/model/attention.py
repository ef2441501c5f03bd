"""Multi-head self-attention that stays inside an instance (arXiv:1706.03762, section 3.2)."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from bert_jax.config import ModelConfig
from bert_jax.model.layers import Dropout, dense


def same_instance(instances: Int[Array, "B T"]) -> Bool[Array, "B T T"]:
    """Which key (last axis) a query sees.

    Padding, instance 0, sees padding: no row of scores is masked whole, so softmax
    never divides by zero, and nothing real ever sees padding.
    """
    return instances[:, :, None] == instances[:, None, :]


class SelfAttention(nn.Module):
    """Softmax in float32, dropout on the probabilities, one output product."""

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
        head_size = config.width // config.heads
        query = dense(config, (config.heads, head_size), name="query")(x)
        key = dense(config, (config.heads, head_size), name="key")(x)
        value = dense(config, (config.heads, head_size), name="value")(x)
        scores = jnp.einsum("BqHK,BkHK->BHqk", query * head_size**-0.5, key)
        scores = scores.astype(jnp.float32)
        scores = jnp.where(is_visible[:, None], scores, jnp.finfo(jnp.float32).min)
        weights = jax.nn.softmax(scores, axis=-1).astype(x.dtype)
        weights = Dropout(config.attention_dropout, name="dropout")(
            weights, deterministic=deterministic
        )
        heads = jnp.einsum("BHqk,BkHK->BqHK", weights, value)
        return dense(config, config.width, axis=(-2, -1), name="output")(heads)
