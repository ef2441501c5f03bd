"""The small parts every block is made of, with Linen's silent defaults set aloud."""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from bert_jax.config import ModelConfig


def weight_init(config: ModelConfig) -> nn.initializers.Initializer:
    """Normal with `init_stddev`, cut at two standard deviations and not rescaled."""
    return nn.initializers.truncated_normal(config.init_stddev)


def dense(
    config: ModelConfig, features: int | tuple[int, ...], *, name: str, axis=-1, dtype: str = ""
):
    """A matrix product in `dtype` ("" = the compute dtype) plus a bias that starts at zero."""
    return nn.DenseGeneral(
        features,
        axis=axis,
        dtype=jnp.dtype(dtype or config.compute_dtype),
        param_dtype=jnp.float32,
        kernel_init=weight_init(config),
        bias_init=nn.initializers.zeros,
        name=name,
    )


def layer_norm(config: ModelConfig, *, name: str):
    """Mean and variance in float32 whatever comes in; the result in the compute dtype."""
    norm = nn.LayerNorm(
        epsilon=config.layer_norm_epsilon,
        dtype=jnp.float32,
        param_dtype=jnp.float32,
        use_fast_variance=False,
        name=name,
    )
    return lambda x: norm(x).astype(config.compute_dtype)


def activation(config: ModelConfig):
    """GELU: Hugging Face's exact form or the original release's tanh approximation."""
    return functools.partial(nn.gelu, approximate=config.gelu == "tanh")


class Dropout(nn.Module):
    """Zeroes a share `rate` of the elements and scales the others up.

    Draws 16 random bits an element, so the rate is met to 1 in 65,536; half the random
    numbers of `flax.linen.Dropout` for the same expectation.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "..."], *, deterministic: bool) -> Float[Array, "..."]:
        dropped = round(self.rate * 2**16)
        if deterministic or dropped == 0:
            return x
        if dropped == 2**16:
            return jnp.zeros_like(x)
        bits = jax.random.bits(self.make_rng("dropout"), x.shape, jnp.uint16)
        scale = 2**16 / (2**16 - dropped)
        return jnp.where(bits >= dropped, x * jnp.asarray(scale, x.dtype), 0)
